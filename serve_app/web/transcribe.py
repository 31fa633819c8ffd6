"""`POST /transcribe`, a recording in, its text out as JSON, text or subtitles; and `/transcribe/stream`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from serve_app.protocols.native import ndjson
from serve_app.protocols.native.transcribe import (
    ProcessingTime,
    ResponseFormat,
    UploadChoices,
    transcript_body,
    upload_choices,
)
from serve_app.protocols.openai.answer import EVENT_STREAM_TYPE
from serve_app.protocols.subtitles import to_srt, to_text, to_tsv, to_vtt
from serve_app.web.arriving import arriving_upload
from serve_app.web.door import Door, Endpoints
from serve_app.web.live.serve import DuplexAnswer
from serve_app.web.recordings import Heard, Telling, heard
from serve_app.web.records import RecordResponse
from serve_app.web.token_doors import token_endpoint
from serve_app.web.told_answer import Lines, told_as_heard
from serve_app.web.uploads import receive_upload, warning_headers
from sotto_client.wire import Transcript

TSV_TYPE: Final = "text/tab-separated-values"


def transcribe_endpoints(door: Door) -> Endpoints:
    async def transcribe(request: Request) -> Response:
        with ExitStack() as held:
            held.enter_context(door.transcription())
            return await _transcribe(request, door, held)

    async def stream(request: Request) -> Response:
        parameters, content_type = request.query_params.multi_items(), request.headers.get("content-type")
        dialect = ndjson.NdjsonDialect(parameters, content_type, heartbeat_s=door.settings.heartbeat_s)
        return DuplexAnswer(door, dialect, ndjson.MEDIA_TYPE)

    return {"transcribe": transcribe, "transcribeStream": stream, "createToken": token_endpoint(door)}


async def _transcribe(request: Request, door: Door, held: ExitStack) -> Response:
    """`held` is what an answer holds on to that goes on after this."""
    started_s = perf_counter()
    asked = upload_choices(request.query_params.multi_items())
    options = asked.recording_options(door.recording_defaults(), door.settings.diarization_backend)
    request, arriving = await arriving_upload(request, door, asked, options)
    if arriving is not None:
        return await answer_to(request, door, arriving.heard, asked, started_s, held)
    upload = await receive_upload(request, door.max_body_bytes, door.upload_memory)
    try:
        choices = upload_choices([*request.query_params.multi_items(), *upload.fields])
        options = choices.recording_options(door.recording_defaults(), door.settings.diarization_backend)
    except BaseException:
        upload.close()
        raise

    async def work(telling: Telling | None) -> Heard:
        return await heard(request, door, upload, options, audio_track=choices.audio_track, telling=telling)

    return await answer_to(request, door, work, choices, started_s, held)


async def answer_to(
    request: Request,
    door: Door,
    work: Callable[[Telling | None], Coroutine[Any, Any, Heard]],
    choices: UploadChoices,
    started_s: float,
    held: ExitStack,
    body_of: Callable[[Transcript], Any] = lambda body: body,
) -> Response:
    """The answer from the recording that `work` transcribes: as `answer_of`, or with its first segment."""
    if choices.response_format is not ResponseFormat.NDJSON:
        return answer_of(await work(None), choices, started_s, body_of)
    lines = Lines(as_events=EVENT_STREAM_TYPE in request.headers.get("accept", ""))
    told = await told_as_heard(door, work, lines, held)
    return lines.whole(told) if isinstance(told, Heard) else told


def answer_of(
    result: Heard,
    choices: UploadChoices,
    started_s: float,
    body_of: Callable[[Transcript], Any] = lambda body: body,
) -> Response:
    """The answer in the format that was chosen; `body_of` makes the door's own JSON of the record."""
    headers = warning_headers(result.warning, result.complete)
    transcript = result.transcript
    match choices.response_format:
        case ResponseFormat.TEXT:
            return Response(to_text(transcript), media_type="text/plain", headers=headers)
        case ResponseFormat.SRT:
            return Response(to_srt(transcript.segments), media_type="application/x-subrip", headers=headers)
        case ResponseFormat.VTT:
            return Response(to_vtt(transcript.segments), media_type="text/vtt", headers=headers)
        case ResponseFormat.TSV:
            return Response(to_tsv(transcript.segments), media_type=TSV_TYPE, headers=headers)
        case ResponseFormat.NDJSON:
            return Lines().whole(result)
        case ResponseFormat.JSON | ResponseFormat.VERBOSE_JSON as chosen:
            total_s = perf_counter() - started_s
            body = transcript_body(
                transcript,
                ProcessingTime(result.decode_s, result.transcribe_s, total_s),
                datetime.now(UTC),
                include_words=choices.word_timestamps or chosen is ResponseFormat.VERBOSE_JSON,
                warning=result.warning,
                complete=result.complete,
                cached_at=result.cached_at,
                hit_at=result.hit_at,
            )
            return RecordResponse(body_of(body), headers=headers)
