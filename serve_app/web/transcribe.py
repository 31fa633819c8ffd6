"""`POST /transcribe`, a recording in, its text out as JSON, text or subtitles; and `/transcribe/stream`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serve_app.audio.recordings import DecodedRecording
from serve_app.core.errors import SottoError
from serve_app.protocols.native import ndjson
from serve_app.protocols.native.transcribe import (
    ProcessingTime,
    ResponseFormat,
    transcript_body,
    upload_choices,
)
from serve_app.protocols.subtitles import to_srt, to_text, to_vtt
from serve_app.service.contract import RecordingTranscript
from serve_app.speakers.turns import SpeakerMode
from serve_app.web.door import Door, Endpoints
from serve_app.web.live.serve import DuplexAnswer
from serve_app.web.records import RecordResponse
from serve_app.web.request_records import current_record
from serve_app.web.token_doors import token_endpoint
from serve_app.web.uploads import decode_upload, receive_upload, warning_headers, while_connected
from sotto_client.wire import Detail

log = structlog.get_logger(__name__)


def transcribe_endpoints(door: Door) -> Endpoints:
    async def transcribe(request: Request) -> Response:
        try:
            with door.upload():
                return await _transcribe(request, door)
        except ClientDisconnect:
            raise
        except SottoError:
            door.metrics.request_failed()
            raise
        except Exception:
            door.metrics.request_failed()
            log.exception("transcription failed")
            return RecordResponse(Detail(detail="Transcription failed"), status_code=500)

    async def stream(request: Request) -> Response:
        parameters, content_type = request.query_params.multi_items(), request.headers.get("content-type")
        dialect = ndjson.NdjsonDialect(parameters, content_type, heartbeat_s=door.settings.heartbeat_s)
        return DuplexAnswer(door, dialect, ndjson.MEDIA_TYPE)

    return {"transcribe": transcribe, "transcribeStream": stream, "createToken": token_endpoint(door)}


async def _transcribe(request: Request, door: Door) -> Response:
    started_s = perf_counter()
    asked = upload_choices(request.query_params.multi_items())
    asked.recording_options(
        door.recording_defaults(), door.settings.diarization_backend
    )  # a bad query costs no upload
    upload = await receive_upload(request, door.max_body_bytes, door.upload_memory)
    try:
        choices = upload_choices([*request.query_params.multi_items(), *upload.fields])
        options = choices.recording_options(door.recording_defaults(), door.settings.diarization_backend)
        decode_started_s = perf_counter()
        by_channel = options.speakers is SpeakerMode.CHANNEL
        recording = await asyncio.to_thread(
            decode_upload,
            upload.file,
            door,
            keep_channels=by_channel,
            audio_track=choices.audio_track,
        )
    finally:
        upload.close()
    await door.usage(request.scope).audio(recording.duration_s)
    decoded_s = perf_counter()
    transcript = await while_connected(
        request, door.within_time(door.service.transcribe(recording.samples, options))
    )
    done_s = perf_counter()
    door.metrics.request_done(done_s - decoded_s, recording.duration_s)
    current_record().transcribed(transcript)
    time = ProcessingTime(decoded_s - decode_started_s, done_s - decoded_s, done_s - started_s)
    return _answer(transcript, recording, time, choices.response_format, choices.word_timestamps)


def _answer(
    transcript: RecordingTranscript,
    recording: DecodedRecording,
    time: ProcessingTime,
    response_format: ResponseFormat,
    include_words: bool,
) -> Response:
    headers = warning_headers(recording)
    match response_format:
        case ResponseFormat.TEXT:
            return Response(to_text(transcript), media_type="text/plain", headers=headers)
        case ResponseFormat.SRT:
            return Response(to_srt(transcript.segments), media_type="application/x-subrip", headers=headers)
        case ResponseFormat.VTT:
            return Response(to_vtt(transcript.segments), media_type="text/vtt", headers=headers)
        case ResponseFormat.JSON:
            now = datetime.now(UTC)
            body = transcript_body(
                transcript,
                time,
                now,
                include_words=include_words,
                warning=recording.warning,
                complete=recording.complete,
            )
            return RecordResponse(body, headers=headers)
