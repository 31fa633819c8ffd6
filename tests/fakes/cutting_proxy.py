"""A TCP proxy that cuts its connections in the middle of a byte stream, as a killed process does."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple, Self


class Cut(NamedTuple):
    """Abort after so many bytes of this direction."""

    up: bool
    num_bytes: int


class CuttingProxy:
    """Every connection takes the next of `ports` in turn, and the next cut as long as there are any."""

    def __init__(self, ports: Iterable[int], cuts: Iterable[Cut] = ()) -> None:
        self.ports = deque(ports)
        self.cuts = deque(cuts)
        self.num_connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
        await asyncio.sleep(0)

    def close(self) -> None:
        """Nobody answers any more."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        self.ports.rotate(-1)
        cut = self.cuts.popleft() if self.cuts else None
        to_server, server_writer = await asyncio.open_connection("127.0.0.1", self.ports[0])
        both = {writer, server_writer}
        self._writers |= both
        pumps = [
            asyncio.create_task(_pump(reader, server_writer, cut.num_bytes if cut and cut.up else None)),
            asyncio.create_task(_pump(to_server, writer, cut.num_bytes if cut and not cut.up else None)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for one in both:
            one.transport.abort()
        self._writers -= both


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int | None) -> None:
    with suppress(OSError):
        while data := await reader.read(4096):
            if left is not None:
                data, left = data[:left], left - len(data)
            writer.write(data)
            await writer.drain()
            if left is not None and left <= 0:
                return
