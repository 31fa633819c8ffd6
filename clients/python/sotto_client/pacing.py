"""Recorded audio sent as a microphone would send it, over a live session."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

from sotto_client.audio import SAMPLE_RATE_HZ, Pcm16, load_recording
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import Message

DEFAULT_CHUNK_MS = 100


async def paced_chunks(
    samples: Pcm16,
    *,
    chunk_ms: int = DEFAULT_CHUNK_MS,
    speed: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> AsyncGenerator[Pcm16, None]:
    """Yield chunks of `samples` at the moment at which a microphone would have filled each of them.

    `speed` 2.0 is twice real time. Late chunks follow at once, so that the pace holds on average.
    """
    chunk_samples = max(1, round(chunk_ms * SAMPLE_RATE_HZ / 1000))
    started = clock()
    for start in range(0, len(samples), chunk_samples):
        chunk = samples[start : start + chunk_samples]
        due = started + (start + len(chunk)) / (SAMPLE_RATE_HZ * speed)
        if (wait_s := due - clock()) > 0:
            await asyncio.sleep(wait_s)
        yield chunk


async def send_paced(
    client: LiveClient, samples: Pcm16, *, chunk_ms: int = DEFAULT_CHUNK_MS, speed: float = 1.0
) -> None:
    """Send all of `samples` at their pace, then say that no more comes."""
    async with aclosing(paced_chunks(samples, chunk_ms=chunk_ms, speed=speed)) as chunks:
        async for chunk in chunks:
            await client.send_audio(chunk)
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
    """Run one session over 16 kHz `samples` and yield its messages as they arrive, to `SessionEnded`."""
    async with LiveClient(url, api_key=api_key) as client:
        yield await client.start(config)
        sender = asyncio.create_task(send_paced(client, samples, chunk_ms=chunk_ms, speed=speed))
        try:
            async for message in client:
                yield message
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


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
