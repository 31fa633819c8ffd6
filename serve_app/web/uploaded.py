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
from serve_app.protocols.answer_headers import COMPLETE_HEADER, WARNING_HEADER
from serve_app.web.door import Door

T = TypeVar("T")


MAX_HEADER_CHARS = 500


def decode_upload(
    file: BinaryIO, door: Door, *, keep_channels: bool = False, audio_track: int | None = None
) -> DecodedRecording:
    """Decode within the door's limits. Blocking. Raises `InvalidAudio`, `UnsupportedFormat` and the like."""
    recording = decode_recording(
        file,
        max_samples=door.max_audio_samples,
        allowed_formats=door.allowed_formats,
        keep_channels=keep_channels,
        audio_track=audio_track,
    )
    min_s = door.settings.min_audio_length_seconds
    if len(recording.samples) < min_s * SAMPLE_RATE_HZ:
        raise InvalidAudio(f"Audio too short: {recording.duration_s:.2f}s (minimum: {min_s:g}s)")
    return recording


def warning_headers(recording: DecodedRecording) -> dict[str, str]:
    """What an answer says of its recording beside the text; nothing where nothing was wrong."""
    if recording.warning is None:
        return {}
    return {
        WARNING_HEADER: header_text(recording.warning, MAX_HEADER_CHARS),
        COMPLETE_HEADER: "true" if recording.complete else "false",
    }


def header_text(text: str, max_chars: int) -> str:
    """What of a text can stand in a header."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)[:max_chars]


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
