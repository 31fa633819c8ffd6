"""A WebSocket inside an HTTP/2 stream (RFC 8441), as browsers open it once a server allows it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader


class ExtendedConnect:
    """One connection, one stream, one WebSocket; frames of either side are never fragmented."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._arrived = StreamReader()
        self._ended = False
        self.status = ""

    async def open(self, authority: str, path: str) -> None:
        self._h2.initiate_connection()
        await self._flush()
        while self._h2.remote_settings.enable_connect_protocol != 1:
            await self._pump()
        headers = [
            *((":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", path)),
            *((":authority", authority), ("sec-websocket-version", "13")),
        ]
        self._h2.send_headers(1, headers)
        await self._flush()
        while not self.status:
            await self._pump()

    async def send(self, message: bytes | str) -> None:
        data = message.encode() if isinstance(message, str) else message
        opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
        left = Frame(opcode, data).serialize(mask=True)
        while left:
            room = min(self._h2.local_flow_control_window(1), self._h2.max_outbound_frame_size)
            if room > 0:
                self._h2.send_data(1, left[:room])
                left = left[room:]
                await self._flush()
            else:
                await self._pump()

    async def recv(self) -> bytes:
        """The next message's payload."""
        parser = Frame.parse(self._arrived.read_exact, mask=False)
        while True:
            try:
                next(parser)
            except StopIteration as stop:
                return bytes(stop.value.data)
            assert not self._ended, "the stream has ended"
            await self._pump()

    async def _pump(self) -> None:
        data = await self._reader.read(65536)
        assert data, "the connection was closed"
        for event in self._h2.receive_data(data):
            if isinstance(event, ResponseReceived):
                self.status = str(dict(event.headers)[":status"])
            elif isinstance(event, DataReceived):
                self._arrived.feed_data(event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, StreamEnded | StreamReset):
                self._ended = True
        await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()


@asynccontextmanager
async def extended_connect(port: int, path: str, trust: ssl.SSLContext) -> AsyncIterator[ExtendedConnect]:
    """A WebSocket to `path` on localhost; `trust` must offer h2 alone."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
    try:
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        client = ExtendedConnect(reader, writer)
        await client.open(f"localhost:{port}", path)
        yield client
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
