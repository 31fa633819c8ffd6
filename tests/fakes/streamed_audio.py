"""A container through the live decoder, cut into chunks."""

from __future__ import annotations

import asyncio

import numpy as np

from serve_app.audio.stream_decoder import ContainerStream
from serve_app.core.samples import Pcm16


async def streamed(data: bytes, chunk_bytes: int) -> tuple[Pcm16, ContainerStream]:
    """All samples, and the stream with what it has to say of them."""
    pieces: list[Pcm16] = []

    async def collect(stream: ContainerStream) -> None:
        async for chunk in stream.samples():
            pieces.append(chunk)

    async with ContainerStream() as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(collect(stream))
        for start in range(0, len(data), chunk_bytes):
            await stream.feed(data[start : start + chunk_bytes])
        stream.finish()
    return np.concatenate(pieces), stream
