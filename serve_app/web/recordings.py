"""A recording that came or is stored, on its way to its text: decoded, transcribed, or found in the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import BinaryIO, Protocol

import msgspec
from starlette.requests import Request

from serve_app.audio.recording_stream import RecordingStream
from serve_app.audio.recordings import DecodedRecording
from serve_app.cache.results import ResultCache
from serve_app.core.jobs import Role
from serve_app.models.mark import files_mark
from serve_app.service.contract import AudioSource, RecordingOptions, RecordingSegment, RecordingTranscript
from serve_app.web.callers import caller_of
from serve_app.web.door import Door
from serve_app.web.request_records import current_record
from serve_app.web.uploads import OpenedAudio, open_upload, samples_of, warning_headers, while_connected


class Audio(Protocol):
    """A file with a recording in it; `sha256` of its bytes."""

    @property
    def sha256(self) -> str: ...

    def opened(self) -> AbstractAsyncContextManager[BinaryIO]:
        """From its start, once."""

    def close(self) -> None:
        """It is not needed, or not any more."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What is computed of a recording, and cached."""

    transcript: RecordingTranscript
    warning: str | None
    complete: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """A recording's text and what it took here; `warning` and `complete` as in `DecodedRecording`.

    `cached_at`, `hit_at`: when its text was kept and found in the cache, None where it was not."""

    transcript: RecordingTranscript
    warning: str | None
    complete: bool
    decode_s: float = 0.0
    transcribe_s: float = 0.0
    cached_at: datetime | None = None
    hit_at: datetime | None = None

    @property
    def cached(self) -> bool:
        return self.hit_at is not None


class Telling:
    """What is told of a recording that is transcribed here, on the way. `short_too`: also of those that were
    decoded whole before. `segments` ends with None; `begun` is set with the first of them."""

    def __init__(self, *, short_too: bool = False) -> None:
        self.segments: asyncio.Queue[RecordingSegment | None] = asyncio.Queue()
        self.begun = asyncio.Event()
        self._short_too = short_too
        self._recording: OpenedAudio | AudioSource | None = None

    def opened(self, recording: OpenedAudio | AudioSource) -> Callable[[RecordingSegment], None] | None:
        """What is to hear its segments; None: they are not told one by one."""
        self._recording = recording
        return self._tell if self._short_too or not isinstance(recording, DecodedRecording) else None

    @property
    def is_late(self) -> bool:
        """What is wrong with the audio is known at its end only."""
        return not isinstance(self._recording, DecodedRecording)

    @property
    def headers(self) -> dict[str, str]:
        known = self._recording
        return warning_headers(known.warning, known.complete) if isinstance(known, DecodedRecording) else {}

    def ended(self) -> None:
        self.segments.put_nowait(None)
        self.begun.set()

    def _tell(self, segment: RecordingSegment) -> None:
        self.segments.put_nowait(segment)
        self.begun.set()


async def heard(
    request: Request,
    door: Door,
    audio: Audio,
    options: RecordingOptions,
    *,
    audio_track: int | None = None,
    telling: Telling | None = None,
) -> Heard:
    """The text of `audio`, which is closed in the end. Counted in the metrics.

    Raises `ClientDisconnect` when the client has gone, and what decoding and transcribing raise.
    """
    began_s = perf_counter()
    computed: list[Heard] = []

    async def compute() -> Heard:
        decode_began_s = perf_counter()
        async with AsyncExitStack() as opened:
            file = await opened.enter_async_context(audio.opened())
            recording = await open_upload(file, door, options, door.usage(request.scope), audio_track)
            on_segment = None if telling is None else telling.opened(recording)
            if isinstance(recording, DecodedRecording):
                await opened.aclose()  # what a transcription does not need is given back
            decoded_s = perf_counter()
            transcript = await door.within_time(
                door.service.transcribe(samples_of(recording), options, on_segment=on_segment)
            )
        return Heard(
            transcript,
            recording.warning,
            recording.complete,
            recording.decode_s if isinstance(recording, RecordingStream) else decoded_s - decode_began_s,
            perf_counter() - decoded_s,
        )

    async def compute_bytes() -> bytes:
        computed.append(await compute())
        done = computed[0]
        return msgspec.msgpack.encode(_Work(done.transcript, done.warning, done.complete))

    cache = door.cache
    if cache is None:
        try:
            result = await while_connected(request, compute())
        finally:
            audio.close()
    else:
        key = _key(cache, request, door, audio, options, audio_track)
        found = await while_connected(request, cache.result(key, compute_bytes, audio.close))
        done = computed[0] if computed else None
        work = msgspec.msgpack.decode(found.value, type=_Work)
        result = Heard(
            work.transcript,
            work.warning,
            work.complete,
            done.decode_s if done else 0.0,
            done.transcribe_s if done else 0.0,
            found.cached_at,
            found.hit_at,
        )
    return counted(door, result, perf_counter() - began_s if result.cached else result.transcribe_s)


def counted(door: Door, result: Heard, took_s: float) -> Heard:
    """`result`, in the metrics and in the request's record."""
    current_record().transcribed(result.transcript)
    door.metrics.request_done(took_s, result.transcript.duration_s, cached=result.cached)
    return result


def _key(
    cache: ResultCache,
    request: Request,
    door: Door,
    audio: Audio,
    options: RecordingOptions,
    audio_track: int | None,
) -> str:
    """Of all that decides the answer beside the settings: also of the limits that refuse it."""
    status = door.service.status()
    return cache.key(
        audio.sha256,
        caller_of(request.scope).key_id,
        options,
        audio_track,
        [(model, files_mark(model.path)) for model in status.models if model.role != Role.INTERIM],
        status.speakers,
        door.max_audio_samples,
        door.settings.min_audio_length_seconds,
        sorted(door.allowed_formats),
    )
