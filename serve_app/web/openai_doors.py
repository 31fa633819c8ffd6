"""OpenAI's doors: `POST /v1/audio/transcriptions` and `/v1/audio/translations`, `GET /v1/models`, Realtime.

Errors come in OpenAI's shape; one that happens after a streamed answer has begun is its last event.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response

from serve_app.core.jobs import Task
from serve_app.protocols.openai.answer import transcription_body
from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.models import hosted_model, model_entry, model_list
from serve_app.protocols.openai.request import ResponseFormat, TranscriptionRequest, transcription_request
from serve_app.protocols.subtitles import to_srt, to_text, to_vtt
from serve_app.service.contract import RecordingOptions, RecordingTranscript
from serve_app.speakers.turns import openai_label
from serve_app.web.door import Door, Endpoints
from serve_app.web.openai_realtime import realtime_endpoints
from serve_app.web.openai_stream import streamed_answer
from serve_app.web.recordings import heard
from serve_app.web.records import RecordResponse
from serve_app.web.uploads import Upload, receive_upload, warning_headers


def openai_endpoints(door: Door) -> Endpoints:
    created_s = int(time.time())

    async def transcriptions(request: Request) -> Response:
        return await _recording(request, door, Task.TRANSCRIBE)

    async def translations(request: Request) -> Response:
        return await _recording(request, door, Task.TRANSLATE)

    async def models(request: Request) -> Response:
        return RecordResponse(model_list(door.service.status().models, created_s))

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        found = hosted_model(name, door.service.status().models)
        return RecordResponse(model_entry(name, found.name, created_s))

    return {
        "createTranscription": transcriptions,
        "createTranslation": translations,
        "listModels": models,
        "retrieveModel": model,
        **realtime_endpoints(door),
    }


async def _recording(request: Request, door: Door, task: Task) -> Response:
    with ExitStack() as held:
        held.enter_context(door.transcription())
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "multipart/form-data":
            raise RefusedParameter("the body must be multipart/form-data with a file and a model")
        upload, asked, options = await _received(request, door, task)
        if asked.stream:
            return await streamed_answer(request, door, asked, upload, options, held)
        result = await heard(request, door, upload, options)
        return _answer(result.transcript, asked, task, warning_headers(result.warning, result.complete))


async def _received(
    request: Request, door: Door, task: Task
) -> tuple[Upload, TranscriptionRequest, RecordingOptions]:
    upload = await receive_upload(request, door.max_body_bytes, door.upload_memory)
    try:
        asked, vad = transcription_request(upload.fields)
        hosted_model(asked.model, door.service.status().models)
        options = asked.recording_options(
            task, vad, door.recording_defaults(), door.settings.diarization_backend
        )
        return upload, asked, options
    except BaseException:
        upload.close()
        raise


def _answer(
    transcript: RecordingTranscript, asked: TranscriptionRequest, task: Task, headers: dict[str, str]
) -> Response:
    match asked.response_format:
        case ResponseFormat.TEXT:
            return Response(to_text(transcript, openai_label), media_type="text/plain", headers=headers)
        case ResponseFormat.SRT:
            subtitles = to_srt(transcript.segments, openai_label)
            return Response(subtitles, media_type="application/x-subrip", headers=headers)
        case ResponseFormat.VTT:
            subtitles = to_vtt(transcript.segments, openai_label)
            return Response(subtitles, media_type="text/vtt", headers=headers)
    return RecordResponse(transcription_body(transcript, asked, task), headers=headers)
