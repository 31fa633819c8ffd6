"""An uploaded recording: received (multipart or raw body, into a spooled file, never over its limit),
decoded, and worked on while its client waits."""

from __future__ import annotations

import asyncio
import hashlib
import math
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, TypeAlias, TypeVar, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serve_app.audio.recording_stream import BEGINNING_SAMPLES, RecordingStream, open_recording
from serve_app.audio.recordings import DecodedRecording, decode_recording, examine_recording
from serve_app.core.errors import (
    InvalidAudio,
    InvalidMessage,
    PayloadTooLarge,
    SottoError,
    UnsupportedFormat,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.protocols.dialect import ContainerAudio
from serve_app.protocols.media_type import parse_audio_type
from serve_app.service.contract import AudioSource, RecordingOptions
from serve_app.speakers.turns import SpeakerMode
from serve_app.web.door import Door
from serve_app.web.upload_memory import HeldMemory, UploadMemory
from sotto_client.recordings import COMPLETE_HEADER, WARNING_HEADER

SPOOL_BYTES = 8 * 1024 * 1024
"""Uploads up to this size stay in memory; larger ones go to an unnamed temporary file."""

MAX_FIELDS = 32
MAX_FIELD_BYTES = 64 * 1024
MULTIPART_OVERHEAD_BYTES = (MAX_FIELDS + 1) * (MAX_FIELD_BYTES + 8 * 1024)
"""What headers and fields may take beside the file itself."""

FILE_FIELDS = ("file", "audio")
MAX_NAME_CHARS = 64
MAX_HEADER_CHARS = 500

T = TypeVar("T")
OpenedAudio: TypeAlias = DecodedRecording | RecordingStream


@dataclass(frozen=True, slots=True)
class Upload:
    """The bytes of one recording, from their start, and their hash; close it when done."""

    file: BinaryIO
    num_bytes: int
    fields: tuple[tuple[str, str], ...]
    sha256: str
    held: HeldMemory | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[BinaryIO]:
        """The file; closed at the end, so that what a long transcription does not need is given back."""
        try:
            yield self.file
        finally:
            self.close()

    def close(self) -> None:
        self.file.close()
        if self.held is not None:
            self.held.release()


class _Parser(MultiPartParser):
    """A part called as the recording is a file, whether or not the client gave it a file name."""

    spool_max_size = SPOOL_BYTES

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.digest = hashlib.sha256()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is not None:  # there is one file at most
            self.digest.update(memoryview(data)[start:end])
        super().on_part_data(data, start, end)

    def on_headers_finished(self) -> None:
        disposition = self._current_part.content_disposition
        if disposition is not None:
            _, options = parse_options_header(disposition)
            name = options.get(b"name", b"").decode("latin-1")
            if name in FILE_FIELDS and b"filename" not in options:
                self._current_part.content_disposition = disposition + b'; filename="recording"'
        super().on_headers_finished()


async def receive_upload(request: Request, max_bytes: int, memory: UploadMemory | None = None) -> Upload:
    """Read the body. Raises before reading it where its length already says that it is too large.

    With `memory` it stays there, and takes no more than is left; without, what is large goes to a file.
    Raises `QueueFull` (no memory left), `PayloadTooLarge`, `InvalidMessage` (no or malformed multipart),
    `InvalidAudio` (nothing in it) and `UnsupportedFormat` (a content type that carries no audio).
    """
    content_type = request.headers.get("content-type", "")
    is_form = content_type.partition(";")[0].strip().lower() == "multipart/form-data"
    held = None if memory is None else HeldMemory(memory)
    try:
        receive = _receive_multipart if is_form else _receive_raw
        upload = await receive(request, max_bytes, held)
    except BaseException:
        if held is not None:
            held.release()
        raise
    if upload.num_bytes == 0:
        upload.close()
        raise InvalidAudio("the audio file is empty")
    return upload


async def _receive_raw(request: Request, max_bytes: int, held: HeldMemory | None) -> Upload:
    content_type = request.headers.get("content-type", "")
    try:
        audio = parse_audio_type(content_type)
    except UnsupportedFormat:
        raise UnsupportedFormat(
            f"content type {content_type[:MAX_NAME_CHARS]!r} carries no audio: send multipart/form-data with "
            "a field 'file', or the recording itself as audio/*"
        ) from None
    if not isinstance(audio, ContainerAudio):
        raise InvalidMessage("raw samples are for /transcribe/stream: send a file here")
    file = tempfile.SpooledTemporaryFile(max_size=_spool_bytes(held))  # noqa: SIM115 - the caller closes it
    num_bytes, digest = 0, hashlib.sha256()
    try:
        async for chunk in _limited(request, max_bytes, max_bytes, held):
            digest.update(chunk)
            num_bytes += file.write(chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return Upload(cast(BinaryIO, file), num_bytes, (), digest.hexdigest(), held)


async def _receive_multipart(request: Request, max_bytes: int, held: HeldMemory | None) -> Upload:
    stream = _limited(request, max_bytes + MULTIPART_OVERHEAD_BYTES, max_bytes, held)
    parser = _Parser(
        request.headers, stream, max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    parser.spool_max_size = _spool_bytes(held)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidMessage(error.message) from None
    uploads = {name: value for name, value in form.multi_items() if isinstance(value, UploadFile)}
    upload = next((uploads[name] for name in FILE_FIELDS if name in uploads), None)
    if upload is None:
        came = sorted({name[:MAX_NAME_CHARS] for name, _ in form.multi_items()})
        await form.close()
        listed = f"the fields are {', '.join(map(repr, came))}" if came else "there are no fields"
        raise InvalidMessage(f"the multipart field 'file' with the recording is missing: {listed}")
    num_bytes = upload.size or 0
    if num_bytes > max_bytes:
        await form.close()
        raise _too_large(num_bytes, max_bytes)
    fields = tuple((name, value) for name, value in form.multi_items() if isinstance(value, str))
    return Upload(upload.file, num_bytes, fields, parser.digest.hexdigest(), held)


def _spool_bytes(held: HeldMemory | None) -> int:
    """0: however large it is, it stays in memory."""
    return SPOOL_BYTES if held is None else 0


async def limited_body(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """A raw body as it comes. Raises `PayloadTooLarge`."""
    async for chunk in _limited(request, max_bytes, max_bytes, None):
        yield chunk


async def _limited(
    request: Request, max_body_bytes: int, max_bytes: int, held: HeldMemory | None
) -> AsyncGenerator[bytes, None]:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_body_bytes:
        raise _too_large(int(announced), max_bytes)
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > max_body_bytes:
            raise _too_large(num_bytes, max_bytes)
        if held is not None:
            held.take(len(chunk))
        yield chunk


def _too_large(num_bytes: int, max_bytes: int) -> PayloadTooLarge:
    mib = 1024 * 1024
    return PayloadTooLarge(f"File too large: {num_bytes / mib:.2f}MB (max: {max_bytes / mib:g}MB)")


# -- once it is here -----------------------------------------------------------------------------------


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
    return _long_enough(recording, door)


def _long_enough(recording: DecodedRecording, door: Door) -> DecodedRecording:
    min_s = door.settings.min_audio_length_seconds
    if len(recording.samples) < min_s * SAMPLE_RATE_HZ:
        raise InvalidAudio(f"Audio too short: {recording.duration_s:.2f}s (minimum: {min_s:g}s)")
    return recording


class AudioUsage(Protocol):
    """What audio is charged to: `access.limits.Usage`, or that of a job."""

    @property
    def limits_audio(self) -> bool: ...
    async def audio(self, seconds: float) -> None:
        """Raises `LimitReached`, `PayloadTooLarge`."""


async def open_upload(
    file: BinaryIO,
    door: Door,
    options: RecordingOptions,
    usage: AudioUsage | None = None,
    audio_track: int | None = None,
) -> OpenedAudio:
    """The recording within the door's limits: whole where it is short or `options` want it so, otherwise as
    it is read; `file` must stay open for that. Its length is charged to `usage` before anything is done.

    Raises as `decode_upload`; a stream raises `PayloadTooLarge` on its way where it is longer than it states.
    """
    recording: OpenedAudio
    is_limited = usage is not None and usage.limits_audio
    if options.needs_whole:
        by_channel = options.speakers is SpeakerMode.CHANNEL
        recording = await asyncio.to_thread(
            decode_upload, file, door, keep_channels=by_channel, audio_track=audio_track
        )
        duration_s = recording.duration_s
    else:
        recording, duration_s = await asyncio.to_thread(
            _open_within, file, door, audio_track, measured=options.normalise or is_limited
        )
    if usage is not None:
        await usage.audio(duration_s)
    return recording


def _open_within(
    file: BinaryIO, door: Door, audio_track: int | None, *, measured: bool
) -> tuple[OpenedAudio, float]:
    """And its length: of one that is not whole 0 unless it is `measured`, as is its peak, by decoding it once
    more."""
    max_samples, formats = door.max_audio_samples, door.allowed_formats
    min_samples = math.ceil(door.settings.min_audio_length_seconds * SAMPLE_RATE_HZ)

    def opened() -> OpenedAudio:
        return open_recording(
            file,
            max_samples=max_samples,
            allowed_formats=formats,
            audio_track=audio_track,
            beginning_samples=max(BEGINNING_SAMPLES, min_samples),
        )

    recording, duration_s = opened(), 0.0
    if isinstance(recording, DecodedRecording):
        return _long_enough(recording, door), recording.duration_s
    states_too_much = (recording.stated_s or 0.0) * SAMPLE_RATE_HZ > max_samples
    if measured or states_too_much:  # what is stated may be wrong: models are not asked before it is known
        facts = examine_recording(
            file, max_samples=max_samples, allowed_formats=formats, audio_track=audio_track
        )
        recording, duration_s = opened(), facts.duration_s
        if isinstance(recording, RecordingStream):
            recording.peak = facts.peak
    return recording, duration_s


def samples_of(opened: OpenedAudio) -> Pcm16 | AudioSource:
    """What is transcribed of it."""
    return opened.samples if isinstance(opened, DecodedRecording) else opened


def warning_headers(warning: str | None, complete: bool) -> dict[str, str]:
    """What an answer says of its recording beside the text; nothing where nothing was wrong."""
    if warning is None:
        return {}
    return {
        WARNING_HEADER: header_text(warning, MAX_HEADER_CHARS),
        COMPLETE_HEADER: "true" if complete else "false",
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
