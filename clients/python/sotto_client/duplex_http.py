"""HTTP/1.1 in full duplex: the response is read while the request body is still being sent.

HTTP allows it, and `POST /transcribe/stream` lives from it, but the common clients send the whole body first.
The protocol is h11's; this file only pumps.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11

from sotto_client.errors import ConnectionLost, ServerUnreachable
from sotto_client.timeouts import timeout

READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ResponseHead:
    status: int
    headers: Mapping[str, str]


class DuplexRequest:
    """One POST on a connection of its own."""

    def __init__(self, url: str, headers: Mapping[str, str], body: AsyncIterable[bytes]) -> None:
        self._url = url
        self._headers = headers
        self._body = body
        self._http = h11.Connection(h11.CLIENT)
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self, timeout_s: float = 20.0) -> ResponseHead:
        """Connect, begin to send, and return once the response begins. Raises `ServerUnreachable`."""
        parts = urlsplit(self._url)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        try:
            async with timeout(timeout_s):
                self._reader, self._writer = await asyncio.open_connection(parts.hostname, port, ssl=tls)
        except (OSError, asyncio.TimeoutError) as error:
            raise ServerUnreachable(self._url, error) from error
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        request = h11.Request(
            method="POST",
            target=target,
            headers=[("Host", host), ("Transfer-Encoding", "chunked"), *self._headers.items()],
        )
        self._write(request)
        self._sender = asyncio.create_task(self._send_body())
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                return ResponseHead(event.status_code, headers)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The response body as it arrives. Raises `ConnectionLost` if it is cut off."""
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    async def close(self) -> None:
        if self._sender is None:
            return
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _send_body(self) -> None:
        async for data in self._body:
            if data:
                self._write(h11.Data(data=data))
                await self._writer.drain()
        self._write(h11.EndOfMessage())
        await self._writer.drain()

    def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)

    async def _next_event(self) -> h11.Event:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise ConnectionLost(None, str(error)) from error
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._read())
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise ConnectionLost(None, "the server closed the connection")
            else:
                assert not isinstance(event, type)
                return event

    async def _read(self) -> bytes:
        """Bytes from the server; the sender's own failure (of the caller's audio source) comes first."""
        self._raise_source_error()
        reading = asyncio.ensure_future(self._reader.read(READ_BYTES))
        waiting: set[asyncio.Future[Any]] = {reading}
        if self._sender is not None and not self._sender.done():
            waiting.add(self._sender)
        try:
            while not reading.done():
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                self._raise_source_error()
                waiting = {reading}
        finally:
            if not reading.done():
                reading.cancel()
        try:
            return reading.result()
        except OSError as error:
            raise ConnectionLost(None, str(error)) from error

    def _raise_source_error(self) -> None:
        sender = self._sender
        if sender is None or not sender.done() or sender.cancelled():
            return
        error = sender.exception()
        # A refused upload breaks the pipe; the server's answer says why, so go on reading.
        if error is not None and not isinstance(error, ConnectionError):
            raise error


async def lines(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Split a byte stream at newlines; empty lines are left out."""
    buffer = b""
    async with aclosing(chunks):
        async for chunk in chunks:
            *complete, buffer = (buffer + chunk).split(b"\n")
            for line in complete:
                if line.strip():
                    yield line
    if buffer.strip():
        yield buffer
