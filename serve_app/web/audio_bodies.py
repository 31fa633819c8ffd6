"""The body of a request as a stream of 16 kHz samples: raw, or a container that is decoded as it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from serve_app.asr.jobs import Pcm16
from serve_app.audio.pcm import PcmStream
from serve_app.audio.stream_decoder import ContainerStream
from serve_app.errors import InvalidAudio
from serve_app.protocols.media_type import RawAudio

Push: TypeAlias = Callable[[Pcm16], Awaitable[None]]


async def pump_raw(chunks: AsyncIterator[bytes], body: RawAudio, push: Push) -> None:
    """Raw bytes cut anywhere. Raises `InvalidAudio` behind the last sample where the end cut one in half."""
    pcm = PcmStream(body.encoding, body.sample_rate_hz, body.channels)
    async for chunk in chunks:
        samples = pcm.push(chunk)
        if len(samples):
            await push(samples)
    tail = pcm.finish()
    if len(tail):
        await push(tail)
    if pcm.num_dangling_bytes:
        raise InvalidAudio(f"the audio ends within a sample: {pcm.num_dangling_bytes} byte(s) left over")


async def pump_container(
    chunks: AsyncIterator[bytes], push: Push, *, allowed_formats: frozenset[str], max_samples: int
) -> None:
    """A container's bytes. Raises its error behind the last sample, `InvalidAudio` where it was damaged."""
    async with ContainerStream(allowed_formats=allowed_formats, max_samples=max_samples) as stream:
        feeding = asyncio.create_task(_feed(stream, chunks))
        try:
            async for samples in stream.samples():
                await push(samples)
            await feeding
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        if stream.warning is not None:
            raise InvalidAudio(stream.warning)


async def _feed(stream: ContainerStream, chunks: AsyncIterator[bytes]) -> None:
    try:
        async for chunk in chunks:
            await stream.feed(chunk)
    finally:
        stream.finish()  # also when the client went away, or nobody would end the decoding
