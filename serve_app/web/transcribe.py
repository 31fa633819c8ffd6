"""`POST /transcribe`: a recording in, its text out, as JSON, text or subtitles."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, BinaryIO, TypeVar

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from serve_app.asr.jobs import SAMPLE_RATE_HZ
from serve_app.audio.recordings import DecodedRecording, decode_recording
from serve_app.errors import InvalidAudio, SottoError
from serve_app.protocols.subtitles import to_srt, to_text, to_vtt
from serve_app.protocols.transcribe import ProcessingTime, ResponseFormat, transcript_body, upload_choices
from serve_app.service import RecordingTranscript
from serve_app.web.door import Door
from serve_app.web.uploads import receive_upload

log = structlog.get_logger(__name__)

T = TypeVar("T")


def transcribe_routes(door: Door) -> list[BaseRoute]:
    async def transcribe(request: Request) -> Response:
        with door.upload():
            try:
                return await _transcribe(request, door)
            except ClientDisconnect:
                raise
            except SottoError:
                door.metrics.request_failed()
                raise
            except Exception:
                door.metrics.request_failed()
                log.exception("transcription failed")
                return JSONResponse({"detail": "Transcription failed"}, status_code=500)

    return [Route("/transcribe", transcribe, methods=["POST"])]


async def _transcribe(request: Request, door: Door) -> Response:
    started_s = perf_counter()
    upload_choices(request.query_params.multi_items())  # a bad query costs no upload
    upload = await receive_upload(request, door.max_body_bytes)
    try:
        choices = upload_choices([*request.query_params.multi_items(), *upload.fields])
        options = choices.recording_options(door.recording_defaults())
        decode_started_s = perf_counter()
        recording = await asyncio.to_thread(decode_upload, upload.file, door)
    finally:
        upload.close()
    decoded_s = perf_counter()
    transcript = await while_connected(request, door.service.transcribe(recording.samples, options))
    done_s = perf_counter()
    door.metrics.request_done(done_s - decoded_s, recording.duration_s)
    time = ProcessingTime(decoded_s - decode_started_s, done_s - decoded_s, done_s - started_s)
    return _answer(transcript, recording, time, choices.response_format, choices.word_timestamps)


def decode_upload(file: BinaryIO, door: Door) -> DecodedRecording:
    recording = decode_recording(
        file, max_samples=door.max_audio_samples, allowed_formats=door.allowed_formats
    )
    min_s = door.settings.min_audio_length_seconds
    if len(recording.samples) < min_s * SAMPLE_RATE_HZ:
        raise InvalidAudio(f"Audio too short: {recording.duration_s:.2f}s (minimum: {min_s:g}s)")
    return recording


def _answer(
    transcript: RecordingTranscript,
    recording: DecodedRecording,
    time: ProcessingTime,
    response_format: ResponseFormat,
    include_words: bool,
) -> Response:
    match response_format:
        case ResponseFormat.TEXT:
            return Response(to_text(transcript.text), media_type="text/plain")
        case ResponseFormat.SRT:
            return Response(to_srt(transcript.segments), media_type="application/x-subrip")
        case ResponseFormat.VTT:
            return Response(to_vtt(transcript.segments), media_type="text/vtt")
        case ResponseFormat.JSON:
            now = datetime.now(UTC)
            body = transcript_body(
                transcript, time, now, include_words=include_words, warning=recording.warning
            )
            return JSONResponse(body)


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
    while (await request.receive())["type"] != "http.disconnect":
        continue
