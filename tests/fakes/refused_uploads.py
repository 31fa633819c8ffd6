"""HTTP/2 clients that announce a body and do not send it, each on a connection of its own."""

from __future__ import annotations

import asyncio
import ssl

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ResponseReceived, StreamEnded, StreamReset

_EMPTY_LAST_DATA_FRAME = bytes([0, 0, 0, 0, 1, 0, 0, 0, 1])
"""DATA without bytes, END_STREAM, stream 1: what curl sends when it is answered early."""


async def refused_over_http2(port: int, path: str, trust: ssl.SSLContext | None = None) -> int:
    """The status of a POST whose 60,000 bytes never come, though its stream is ended; `trust`: over TLS."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=trust)
    connection = H2Connection(H2Configuration(header_encoding="utf-8"))
    status = 0
    try:
        await _announce(connection, writer, path, trust)
        ended = False
        while not ended:
            data = await reader.read(65536)
            assert data, "the connection was closed without an answer"
            for event in connection.receive_data(data):
                if isinstance(event, ResponseReceived):
                    status = int(dict(event.headers)[":status"])
                ended = ended or isinstance(event, StreamEnded | StreamReset)
        writer.write(_EMPTY_LAST_DATA_FRAME)
        await writer.drain()
    finally:
        writer.close()
    return status


async def broken_upload(port: int, path: str, trust: ssl.SSLContext | None = None, *, reset: bool) -> None:
    """Send half of an upload, then reset its stream or drop the connection."""
    _, writer = await asyncio.open_connection("localhost", port, ssl=trust)
    connection = H2Connection(H2Configuration(header_encoding="utf-8"))
    await _announce(connection, writer, path, trust)
    connection.send_data(1, bytes(10_000))
    writer.write(connection.data_to_send())
    await writer.drain()
    if reset:
        connection.reset_stream(1, error_code=8)  # CANCEL
        writer.write(connection.data_to_send())
        await writer.drain()
        writer.close()
    else:
        writer.transport.abort()


async def _announce(
    connection: H2Connection, writer: asyncio.StreamWriter, path: str, trust: ssl.SSLContext | None
) -> None:
    connection.initiate_connection()
    headers = [
        *(
            (":method", "POST"),
            (":scheme", "http" if trust is None else "https"),
            (":authority", "localhost"),
        ),
        *((":path", path), ("content-type", "audio/flac"), ("content-length", "60000")),
    ]
    connection.send_headers(1, headers)
    writer.write(connection.data_to_send())
    await writer.drain()
