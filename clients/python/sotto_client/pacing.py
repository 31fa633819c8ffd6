"""Recorded audio as a microphone would give it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from sotto_client.audio import SAMPLE_RATE_HZ, Pcm16

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
