"""What upload doors do with a recording once it is here: decode it, work on it while somebody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

from starlette.requests import ClientDisconnect, Request

from serve_app.asr.jobs import SAMPLE_RATE_HZ
from serve_app.audio.recordings import DecodedRecording, decode_recording
from serve_app.errors import InvalidAudio, SottoError
from serve_app.web.door import Door

T = TypeVar("T")


def decode_upload(file: BinaryIO, door: Door, *, keep_channels: bool = False) -> DecodedRecording:
    """Decode within the door's limits. Blocking. Raises `InvalidAudio`, `UnsupportedFormat` and the like."""
    recording = decode_recording(
        file,
        max_samples=door.max_audio_samples,
        allowed_formats=door.allowed_formats,
        keep_channels=keep_channels,
    )
    min_s = door.settings.min_audio_length_seconds
    if len(recording.samples) < min_s * SAMPLE_RATE_HZ:
        raise InvalidAudio(f"Audio too short: {recording.duration_s:.2f}s (minimum: {min_s:g}s)")
    return recording


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away. Raises `ClientDisconnect` then."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, SottoError):
                await task


async def until_gone(request: Request) -> None:
    """Returns when the client has gone away; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
