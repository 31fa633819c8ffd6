"""Whole live sessions that resume by themselves, from a source of audio or a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from pathlib import Path

from sotto_client.addresses import DEFAULT_URL
from sotto_client.audio import Pcm16, load_recording
from sotto_client.errors import ConnectionLost
from sotto_client.live import SessionConfig
from sotto_client.messages import Message
from sotto_client.pacing import DEFAULT_CHUNK_MS, paced_chunks
from sotto_client.resuming import ResumingClient


async def stream_audio(
    chunks: AsyncIterable[bytes | Pcm16],
    *,
    url: str = DEFAULT_URL,
    config: SessionConfig | None = None,
    api_key: str | None = None,
) -> AsyncGenerator[Message, None]:
    """Send `chunks` as they come and yield the messages of the session, to `SessionEnded`.

    Raises what `ResumingClient` does, and what `chunks` raises.
    """
    async with ResumingClient(url, config, api_key=api_key) as client:
        feeder = asyncio.create_task(_feed(client, chunks))
        try:
            async with aclosing(aiter(client)) as messages:
                async for message in messages:
                    yield message
            if feeder.done():
                feeder.result()
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)


async def _feed(client: ResumingClient, chunks: AsyncIterable[bytes | Pcm16]) -> None:
    try:
        async for chunk in chunks:
            await client.send_audio(chunk)
    except ConnectionLost:
        return
    except Exception:
        await client.cancel()
        raise
    await client.end()


async def stream_samples(
    url: str,
    samples: Pcm16,
    *,
    config: SessionConfig | None = None,
    api_key: str | None = None,
    chunk_ms: int = DEFAULT_CHUNK_MS,
    speed: float = 1.0,
) -> AsyncGenerator[Message, None]:
    """`stream_audio` of 16 kHz `samples`, sent as a microphone would send them."""
    async with aclosing(paced_chunks(samples, chunk_ms=chunk_ms, speed=speed)) as chunks:
        session = stream_audio(chunks, url=url, config=config, api_key=api_key)
        async with aclosing(session) as messages:
            async for message in messages:
                yield message


async def stream_file(
    url: str,
    path: Path,
    *,
    config: SessionConfig | None = None,
    api_key: str | None = None,
    chunk_ms: int = DEFAULT_CHUNK_MS,
    speed: float = 1.0,
) -> AsyncGenerator[Message, None]:
    """`stream_samples` of a file, decoded here."""
    samples = await asyncio.to_thread(load_recording, path)
    session = stream_samples(url, samples, config=config, api_key=api_key, chunk_ms=chunk_ms, speed=speed)
    async with aclosing(session) as messages:
        async for message in messages:
            yield message
