"""Long uploads that are transcribed while they are still being sent.

The body goes into a file at the client's pace, and from there to the decoder at that of the models, so that a
slow model keeps no connection waiting. Only where segments are told one by one, and where nothing has to be
known of the whole before.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from serve_app.audio.formats import SNIFF_BYTES, sniff_format
from serve_app.audio.recordings import missing_bytes
from serve_app.audio.stream_decoder import ContainerStream
from serve_app.core.errors import InvalidAudio, SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.protocols.native.transcribe import ResponseFormat, UploadChoices
from serve_app.service.contract import RecordingOptions
from serve_app.web.door import Door
from serve_app.web.recordings import Heard, Telling, counted
from serve_app.web.uploads import SPOOL_BYTES, limited_body, until_gone

FORMATS: Final = frozenset({"wav", "ogg"})
"""Which say all that is needed in their order. The others state a length, which shows what is missing, have
their index at the end, or (MP3) a few samples more where they cannot be measured first."""
_FEED_BYTES: Final = 64 * 1024


async def arriving_upload(
    request: Request, door: Door, choices: UploadChoices, options: RecordingOptions
) -> tuple[Request, ArrivingUpload | None]:
    """The upload of a request that is to be transcribed as it comes, None where the whole of it is needed;
    and the request to go on with, of which no byte is missing."""
    length = request.headers.get("content-length", "")
    settings = door.settings
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    needs_whole = (
        choices.response_format is not ResponseFormat.NDJSON
        or not (media_type.startswith("audio/") and length.isdigit() and int(length) > SPOOL_BYTES)
        or options.needs_whole
        or options.normalise
        or choices.audio_track is not None
        or door.cache is not None  # its keys are sums of the whole
        or door.upload_memory is not None
        or door.usage(request.scope).limits_audio
        or settings.request_timeout_s > 0  # which begins when the body has come
    )
    if needs_whole:
        return request, None
    request, head = await _peeked(request)
    format_name = sniff_format(head)
    if format_name not in FORMATS or format_name not in door.allowed_formats:
        return request, None
    return request, ArrivingUpload(request, door, format_name, options)


async def _peeked(request: Request) -> tuple[Request, bytes]:
    """The same request, and its first bytes."""
    messages: deque[Message] = deque()
    head = b""
    while len(head) < SNIFF_BYTES:
        messages.append(await request.receive())
        head += messages[-1].get("body", b"")
        if not messages[-1].get("more_body", False):
            break

    async def receive() -> Message:
        return messages.popleft() if messages else await request.receive()

    return Request(request.scope, receive), head[:SNIFF_BYTES]


class ArrivingUpload:
    """An `AudioSource`, transcribed once by `heard`."""

    stated_s = None
    peak = None

    def __init__(self, request: Request, door: Door, format_name: str, options: RecordingOptions) -> None:
        self._request = request
        self._door = door
        self._format_name = format_name
        self._options = options
        self._head = b""
        self._num_bytes = self._num_samples = 0
        self._has_ended = False
        self._came = asyncio.Event()

    async def heard(self, telling: Telling | None) -> Heard:
        """Its text. Raises `ClientDisconnect` when the client has gone, and as transcribing and decoding."""
        began_s, door = perf_counter(), self._door
        on_segment = None if telling is None else telling.opened(self)
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as self._file:
            async with ContainerStream(
                allowed_formats=door.allowed_formats,
                max_samples=door.max_audio_samples,
                format_name=self._format_name,
            ) as self._stream:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        coming = [tasks.create_task(self._receive()), tasks.create_task(self._feed())]
                        transcript = await door.service.transcribe(self, self._options, on_segment=on_segment)
                        for task in coming:
                            task.cancel()
                except ExceptionGroup as failed:
                    errors = failed.exceptions
                    told = (error for error in errors if isinstance(error, SottoError | ClientDisconnect))
                    raise next(told, errors[0]) from None
        problem = self._stream.warning or self._missing
        notes = [note for note in (problem, self._stream.remark) if note is not None]
        took_s = perf_counter() - began_s
        result = Heard(transcript, "; ".join(notes) or None, problem is None, transcribe_s=took_s)
        return counted(door, result, took_s)

    async def blocks(self) -> AsyncIterator[Pcm16]:
        """Raises `InvalidAudio`, `PayloadTooLarge`."""
        async for samples in self._stream.samples():
            self._num_samples += len(samples)
            yield samples
        min_s = self._door.settings.min_audio_length_seconds
        if self._num_samples < min_s * SAMPLE_RATE_HZ:
            raise InvalidAudio(f"Audio too short (minimum: {min_s:g}s)")

    @property
    def _missing(self) -> str | None:
        return missing_bytes(self._head, self._num_bytes) if self._format_name == "wav" else None

    async def _receive(self) -> None:
        """Ends with the client: whoever waits for this is told that it has gone."""
        max_bytes = self._door.max_body_bytes
        async for chunk in limited_body(self._request, max_bytes):
            if len(self._head) < SNIFF_BYTES:
                self._head = (self._head + chunk)[:SNIFF_BYTES]
            self._file.seek(self._num_bytes)
            self._num_bytes += self._file.write(chunk)
            self._came.set()
        self._has_ended = True
        self._came.set()
        await until_gone(self._request)
        raise ClientDisconnect

    async def _feed(self) -> None:
        num_fed = 0
        while num_fed < self._num_bytes or not self._has_ended:
            self._came.clear()
            self._file.seek(num_fed)
            block = self._file.read(_FEED_BYTES)
            num_fed += len(block)
            if block:
                await self._stream.feed(block)
            elif not self._has_ended:
                await self._came.wait()
        self._stream.finish()
