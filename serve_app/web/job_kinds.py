"""The work of a job, as the door that took it does it for a client that waits, and its webhook."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import BinaryIO, Final, Protocol

import msgspec

from serve_app.access.caller import Caller
from serve_app.access.limits import Usage
from serve_app.audio.recording_stream import RecordingStream
from serve_app.core.errors import SottoError
from serve_app.core.samples import Pcm16
from serve_app.jobs.records import Job, JobState
from serve_app.jobs.worker import JobKind, Parts, Progress
from serve_app.protocols.deepgram.options import parse_options
from serve_app.protocols.deepgram.records import ListenError
from serve_app.protocols.jobs.messages import NATIVE, webhook_body
from serve_app.protocols.native.transcribe import upload_choices
from serve_app.service.contract import AudioSource, RecordingOptions, RecordingTranscript
from serve_app.web.deepgram_doors import DEEPGRAM_JOB, open_listen, recording_options
from serve_app.web.door import Door
from serve_app.web.recordings import Heard
from serve_app.web.records import RecordResponse
from serve_app.web.transcribe import answer_of
from serve_app.web.uploads import AudioUsage, open_upload, samples_of

_LENGTH: Final = "seconds of audio"
_CHARGED: Final = "audio is charged"
"""Names of parts, beside those of windows, which are hexadecimal."""


class Transcribe(Protocol):
    """Text of a recording, whose finished parts are kept."""

    def __call__(
        self, audio: Pcm16 | AudioSource, options: RecordingOptions, progress: Progress, /
    ) -> Awaitable[RecordingTranscript]: ...


TranscribeWith = Callable[[Parts], Transcribe]


def job_kinds(door: Door, transcribe_with: TranscribeWith) -> Mapping[str, JobKind]:
    """By the names that doors queue their jobs under."""

    def usage(job: Job, parts: Parts) -> _JobUsage:
        return _JobUsage(door.limiter.usage(_owner_of(job, door)), parts)

    async def admit(job: Job, parts: Parts) -> None:
        await usage(job, parts).again()

    async def native(job: Job, file: BinaryIO, parts: Parts, progress: Progress) -> bytes:
        return await _native(door, transcribe_with(parts), usage(job, parts), job, file, progress)

    async def listen(job: Job, file: BinaryIO, parts: Parts, progress: Progress) -> bytes:
        return await _listen(door, transcribe_with(parts), usage(job, parts), job, file, progress)

    return {
        NATIVE: JobKind(native, webhook_body, admit),
        DEEPGRAM_JOB: JobKind(listen, _listen_callback, admit),
    }


class _JobUsage:
    """A job's audio counts against its owner's limits once, however often the job is taken up. How much it
    is, is kept with the job that waits for them, so that its audio is measured once too."""

    def __init__(self, usage: Usage, parts: Parts) -> None:
        self._usage = usage
        self._parts = parts

    @property
    def limits_audio(self) -> bool:
        return self._usage.limits_audio and self._parts.recall(_CHARGED) is None

    async def again(self) -> None:
        """Of a job that had to wait before. Raises as `audio`."""
        if (seconds := self._parts.recall(_LENGTH)) is not None:
            await self.audio(float(seconds))

    async def audio(self, seconds: float) -> None:
        """Raises `LimitReached`, `PayloadTooLarge`."""
        if not self.limits_audio:
            return
        if self._parts.recall(_LENGTH) is None:
            await self._parts.keep(_LENGTH, str(seconds).encode())
        await self._usage.audio(seconds)
        await self._parts.keep(_CHARGED, b"")


def _owner_of(job: Job, door: Door) -> Caller:
    """With the limits that its key has now; a key that no longer holds has those of all keys."""
    owner = (door.keys.caller_of(job.owner) if door.keys is not None else None) or Caller(key_id=job.owner)
    return replace(owner, address=job.address)


async def _native(
    door: Door, transcribe: Transcribe, usage: AudioUsage, job: Job, file: BinaryIO, progress: Progress
) -> bytes:
    began_s = perf_counter()
    choices = upload_choices(job.parameters)
    options = choices.recording_options(door.recording_defaults(), door.settings.diarization_backend)
    recording = await open_upload(file, door, options, usage, audio_track=choices.audio_track)
    decoded_s = perf_counter()
    transcript = await transcribe(samples_of(recording), options, progress)
    done_s = perf_counter()
    door.metrics.request_done(done_s - decoded_s, recording.duration_s)
    heard = Heard(
        transcript,
        recording.warning,
        recording.complete,
        decode_s=recording.decode_s if isinstance(recording, RecordingStream) else decoded_s - began_s,
        transcribe_s=done_s - decoded_s,
    )
    answer = answer_of(heard, choices, began_s)
    body = bytes(answer.body)
    return body if answer.media_type == RecordResponse.media_type else msgspec.json.encode(body.decode())


async def _listen(
    door: Door, transcribe: Transcribe, usage: AudioUsage, job: Job, file: BinaryIO, progress: Progress
) -> bytes:
    options = parse_options(job.parameters, live=False)
    asked = recording_options(options, door.recording_defaults(), door.settings.diarization_backend)
    sha256 = await asyncio.to_thread(_sha256, file)
    recording = await open_listen(file, sha256, options, asked, door, usage)
    transcripts = []
    began_s, num_channels = perf_counter(), len(recording.channels)
    for index, samples in enumerate(recording.channels):

        def so_far(share: float, index: int = index) -> None:
            progress((index + share) / num_channels)

        transcripts.append(await transcribe(samples, asked, so_far))
    recording = recording.read()
    door.metrics.request_done(perf_counter() - began_s, recording.duration_s)
    created = datetime.fromtimestamp(job.created_s, UTC)
    return msgspec.json.encode(recording.answer(transcripts, options, job.job_id, created))


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    file.seek(0)
    return digest.hexdigest()


def _listen_callback(job: Job, result: bytes | None) -> bytes:
    """The answer as it would have been given at once, or its error."""
    if job.state is JobState.DONE and result is not None:
        return result
    code = "Bad Request" if job.error_code != SottoError.code else "INTERNAL_SERVER_ERROR"
    return msgspec.json.encode(ListenError(err_code=code, err_msg=job.error, request_id=job.job_id))
