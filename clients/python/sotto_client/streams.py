"""Streaming uploads: `POST /transcribe/stream`, audio up and NDJSON messages down at the same time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing

from sotto_client.addresses import DEFAULT_URL, authorization, http_url
from sotto_client.duplex_http import DuplexRequest, lines
from sotto_client.errors import ConnectionLost
from sotto_client.messages import Message, SessionEnded, parse_message
from sotto_client.recordings import failure_of

PATH = "/transcribe/stream"
PCM_16K = "audio/pcm;rate=16000"


async def transcribe_stream(
    audio: AsyncIterable[bytes],
    *,
    url: str = DEFAULT_URL,
    content_type: str = PCM_16K,
    query: Mapping[str, str] | None = None,
    api_key: str | None = None,
) -> AsyncGenerator[Message, None]:
    """Send `audio` as it comes and yield the server's messages as they come; the last is `SessionEnded`.

    `content_type` is "audio/pcm;rate=..." for raw samples or the file's own type ("audio/flac"). `query`
    carries the choices of `SessionConfig` under their wire names. Raises `ServerUnreachable`,
    `RequestFailed`, `ConnectionLost`, and what `audio` raises.
    """
    address = http_url(url, PATH, query)
    headers = {"Content-Type": content_type, "Accept": "application/x-ndjson", **authorization(api_key)}
    request = DuplexRequest(address, headers, audio)
    try:
        head = await request.open()
        if not 200 <= head.status < 300:
            raise failure_of(head.status, b"".join([part async for part in request.chunks()]), head.headers)
        async with aclosing(lines(request.chunks())) as received:
            async for line in received:
                message = parse_message(json.loads(line))
                yield message
                if isinstance(message, SessionEnded):
                    return
        raise ConnectionLost(None, "the answer ended without session_ended")
    finally:
        await request.close()


async def file_chunks(data: bytes, chunk_bytes: int = 32 * 1024) -> AsyncGenerator[bytes, None]:
    """A whole file in pieces, as fast as the server takes them."""
    for start in range(0, len(data), chunk_bytes):
        yield data[start : start + chunk_bytes]
        await asyncio.sleep(0)
