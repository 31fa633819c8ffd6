"""The clips' doors, and those that transcribe a clip, or a recording in one request: `POST /api/transcribe`
and `POST /upload+transcribe`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response

from serve_app.audio.recordings import examine_recording
from serve_app.clips.ports import AudioFacts, Clip, Clips
from serve_app.core.errors import InvalidAudio, NothingKept, UnknownClip
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
from serve_app.web.arriving import arriving_upload
from serve_app.web.callers import caller_of
from serve_app.web.door import Door, Endpoints
from serve_app.web.jobs import accepted, queue_this
from serve_app.web.recordings import Audio, Heard, Telling, heard
from serve_app.web.records import RecordResponse
from serve_app.web.transcribe import answer_to
from serve_app.web.uploads import Upload, receive_upload, warning_headers, while_connected


def clip_endpoints(door: Door) -> Endpoints:
    async def store(request: Request) -> Response:
        clips = _clips(door)

        async def keep(upload: Upload) -> tuple[Clip, str | None]:
            audio, warning = await asyncio.to_thread(_examined, upload, door)
            key_id = caller_of(request.scope).key_id
            return await clips.keep(upload.file, upload.sha256, audio, key_id), warning

        with door.upload():
            upload = await receive_upload(request, door.max_body_bytes)
            try:
                clip, warning = await while_connected(request, keep(upload))
            finally:
                upload.close()  # where the client has gone, decoding ends with its next read
            headers = warning_headers(warning, clip.audio.complete)
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
        with ExitStack() as held:
            held.enter_context(door.transcription())
            choices = _choices(request)
            if choices.clip_id is None:
                return await _transcribe_body(request, door, choices, held, by_default=False)
            return await _transcribe_clip(request, door, choices, choices.clip_id, held)

    async def upload_and_transcribe(request: Request) -> Response:
        with ExitStack() as held:
            held.enter_context(door.transcription())
            return await _transcribe_body(request, door, _choices(request), held, by_default=True)

    return {
        "storeClip": store,
        "listClips": newest,
        "clip": find,
        "deleteClip": delete,
        "transcribeClip": transcribe,
        "uploadAndTranscribe": upload_and_transcribe,
        "uploadAndTranscribeApi": upload_and_transcribe,
    }


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


async def _transcribe_clip(
    request: Request, door: Door, choices: ClipChoices, clip_id: str, held: ExitStack
) -> Response:
    clips, key_id = _clips(door), caller_of(request.scope).key_id
    if choices.webhook_url is not None:
        return accepted(await queue_this(request, door, _for_a_job(request, door, choices), None))
    began_s = perf_counter()
    clip = await clips.find(clip_id, key_id)
    audio = _StoredAudio(clips, clip, key_id)

    async def delete() -> None:
        if door.settings.delete_audio_immediately:
            with suppress(UnknownClip):  # another request was as fast
                await clips.delete(clip_id, key_id, keep_text=True)

    return await _transcribed(request, door, audio, choices, began_s, held, by_default=True, then=delete)


async def _transcribe_body(
    request: Request, door: Door, choices: ClipChoices, held: ExitStack, *, by_default: bool
) -> Response:
    began_s = perf_counter()
    options, _ = _options(choices, door, by_default=by_default)  # a bad query costs no upload
    if choices.webhook_url is None:
        request, arriving = await arriving_upload(request, door, choices, options)
        if arriving is not None:
            return await answer_to(request, door, arriving.heard, choices, began_s, held)
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
    return await _transcribed(request, door, upload, choices, began_s, held, by_default=by_default)


async def _nothing() -> None:
    return None


async def _transcribed(
    request: Request,
    door: Door,
    audio: Audio,
    choices: ClipChoices,
    began_s: float,
    held: ExitStack,
    *,
    by_default: bool,
    then: Callable[[], Awaitable[None]] = _nothing,
) -> Response:
    """`then` follows a transcription, before its answer is complete."""
    options, missing = _options(choices, door, by_default=by_default)

    async def work(telling: Telling | None) -> Heard:
        result = await heard(request, door, audio, options, audio_track=choices.audio_track, telling=telling)
        await then()
        return result

    return await answer_to(
        request, door, work, choices, began_s, held, lambda body: short_body(body, missing)
    )
