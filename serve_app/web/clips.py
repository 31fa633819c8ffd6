"""The clips' doors, and those that transcribe a clip, or a recording in one request: `POST /api/transcribe`
and `POST /upload+transcribe`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import BinaryIO

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serve_app.audio.recordings import examine_recording
from serve_app.clips.ports import AudioFacts, Clip, Clips
from serve_app.core.errors import InternalError, InvalidAudio, NothingKept, SottoError, UnknownClip
from serve_app.core.paging import place_of
from serve_app.protocols.choices import convert_parameters
from serve_app.protocols.native.clips import (
    ClipChoices,
    ClipDeleted,
    ClipQuery,
    ClipStored,
    clip_info,
    clip_list,
    short_body,
)
from serve_app.service.contract import RecordingOptions
from serve_app.speakers.turns import SpeakerMode
from serve_app.web.callers import caller_of
from serve_app.web.door import Door, Endpoint, Endpoints
from serve_app.web.errors import error_response
from serve_app.web.jobs import accepted, queue_this
from serve_app.web.recordings import Audio, heard
from serve_app.web.records import RecordResponse
from serve_app.web.transcribe import answer_of
from serve_app.web.uploads import Upload, receive_upload, warning_headers

log = structlog.get_logger(__name__)


def clip_endpoints(door: Door) -> Endpoints:
    async def store(request: Request) -> Response:
        clips = _clips(door)
        with door.upload():
            upload = await receive_upload(request, door.max_body_bytes)
            try:
                audio, warning = await asyncio.to_thread(_examined, upload, door)
                clip = await clips.keep(upload.file, upload.sha256, audio, caller_of(request.scope).key_id)
            finally:
                upload.close()
            headers = warning_headers(warning, audio.complete)
            return RecordResponse(ClipStored(clip_id=clip.clip_id), headers=headers)

    async def find(request: Request) -> Response:
        clip_id = request.path_params["clip_id"]
        return RecordResponse(clip_info(await _clips(door).find(clip_id, caller_of(request.scope).key_id)))

    async def newest(request: Request) -> Response:
        query = convert_parameters(request.query_params.multi_items(), ClipQuery)
        before = place_of(query.before)
        page = await _clips(door).newest(caller_of(request.scope).key_id, query.limit, before)
        return RecordResponse(clip_list(page))

    async def delete(request: Request) -> Response:
        clip_id = request.path_params["clip_id"]
        await _clips(door).delete(clip_id, caller_of(request.scope).key_id)
        return RecordResponse(ClipDeleted(clip_id=clip_id))

    async def transcribe(request: Request) -> Response:
        choices = _choices(request)
        if choices.clip_id is None:
            return await _transcribe_body(request, door, choices, by_default=False)
        return await _transcribe_clip(request, door, choices, choices.clip_id)

    async def upload_and_transcribe(request: Request) -> Response:
        return await _transcribe_body(request, door, _choices(request), by_default=True)

    single_step = _counted(upload_and_transcribe, door)
    return {
        "storeClip": store,
        "listClips": newest,
        "clip": find,
        "deleteClip": delete,
        "transcribeClip": _counted(transcribe, door),
        "uploadAndTranscribe": single_step,
        "uploadAndTranscribeApi": single_step,
    }


def _counted(answer: Callable[[Request], Awaitable[Response]], door: Door) -> Endpoint:
    """`answer` while there is room for it, and with its failures counted."""

    async def counted(request: Request) -> Response:
        try:
            with door.upload():
                return await answer(request)
        except ClientDisconnect:
            raise
        except SottoError:
            door.metrics.request_failed()
            raise
        except Exception:
            door.metrics.request_failed()
            log.exception("transcription failed")
            return error_response(request.scope, InternalError("Transcription failed"))

    return counted


def _clips(door: Door) -> Clips:
    if door.clips is None:
        raise NothingKept("this server keeps no recordings: send them to be transcribed at once")
    return door.clips


def _examined(upload: Upload, door: Door) -> tuple[AudioFacts, str | None]:
    """What decoding says of it, and what is wrong with it; its name says nothing. Blocking. Raises
    `InvalidAudio` and the like."""
    found = examine_recording(
        upload.file, max_samples=door.max_audio_samples, allowed_formats=door.allowed_formats
    )
    min_s = door.settings.min_audio_length_seconds
    if found.duration_s < min_s:
        raise InvalidAudio(f"Audio too short: {found.duration_s:.2f}s (minimum: {min_s:g}s)")
    audio = AudioFacts(
        found.format, found.duration_s, found.sample_rate_hz, found.num_channels, found.complete
    )
    return audio, found.warning


# -- transcribing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _StoredAudio:
    """A clip as `web.recordings` takes it: opened only where its text is not in the cache."""

    clips: Clips
    clip: Clip
    key_id: str

    @property
    def sha256(self) -> str:
        return self.clip.sha256

    def opened(self) -> AbstractAsyncContextManager[BinaryIO]:
        return self.clips.opened(self.clip.clip_id, self.key_id)

    def close(self) -> None:
        """`opened` closes what it opened."""


def _choices(request: Request, *fields: tuple[str, str]) -> ClipChoices:
    return convert_parameters([*request.query_params.multi_items(), *fields], ClipChoices)


def _options(choices: ClipChoices, door: Door, *, by_default: bool) -> tuple[RecordingOptions, str]:
    """The options, and why speakers are not told apart where that was not asked for and is not possible.

    `by_default`: they are told apart unless that is declined.
    """
    defaults, backend = door.recording_defaults(), door.settings.diarization_backend
    missing = door.service.status().speakers.missing
    if not by_default or choices.diarize is not None:
        return choices.recording_options(defaults, backend), ""
    if missing and backend != "channel":
        return choices.with_diarize(False).recording_options(defaults, backend), missing
    return choices.with_diarize(True).recording_options(defaults, backend), ""


def _for_a_job(
    request: Request, door: Door, choices: ClipChoices | None, *fields: tuple[str, str]
) -> list[tuple[str, str]]:
    """The parameters of a request that is queued. With `choices` speakers are told apart unless that is
    declined or not possible, as at once."""
    parameters = [*request.query_params.multi_items(), *fields]
    if choices is not None and choices.diarize is None:
        defaults, _ = _options(choices, door, by_default=True)
        parameters.append(("diarize", "false" if defaults.speakers is SpeakerMode.OFF else "true"))
    return parameters


async def _transcribe_clip(request: Request, door: Door, choices: ClipChoices, clip_id: str) -> Response:
    clips, key_id = _clips(door), caller_of(request.scope).key_id
    if choices.webhook_url is not None:
        return accepted(await queue_this(request, door, _for_a_job(request, door, choices), None))
    began_s = perf_counter()
    clip = await clips.find(clip_id, key_id)
    audio = _StoredAudio(clips, clip, key_id)
    answer = await _transcribed(request, door, audio, choices, began_s, by_default=True)
    if door.settings.delete_audio_immediately:
        with suppress(UnknownClip):  # another request was as fast
            await clips.delete(clip_id, key_id)
    return answer


async def _transcribe_body(
    request: Request, door: Door, choices: ClipChoices, *, by_default: bool
) -> Response:
    began_s = perf_counter()
    _options(choices, door, by_default=by_default)  # a bad query costs no upload
    upload = await receive_upload(request, door.max_body_bytes, door.upload_memory)
    try:
        choices = _choices(request, *upload.fields)
        _options(choices, door, by_default=by_default)
        if choices.webhook_url is not None:
            fields = _for_a_job(request, door, choices if by_default else None, *upload.fields)
            job = await queue_this(request, door, fields, upload.file)
            upload.close()
            return accepted(job)
    except BaseException:
        upload.close()
        raise
    return await _transcribed(request, door, upload, choices, began_s, by_default=by_default)


async def _transcribed(
    request: Request, door: Door, audio: Audio, choices: ClipChoices, began_s: float, *, by_default: bool
) -> Response:
    options, missing = _options(choices, door, by_default=by_default)
    result = await heard(request, door, audio, options, audio_track=choices.audio_track)
    return answer_of(result, choices, began_s, lambda body: short_body(body, missing))
