"""`/v1/listen`, live over a WebSocket and with `POST` for a recording; errors in Deepgram's shape too.

A recording's body is the audio itself, whichever content type it names; options are query parameters. With
`callback` it is queued, and then its address (`{"url": ...}`) will do; without, a client would wait for it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from time import perf_counter
from typing import BinaryIO, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from serve_app.access.keys import answered_subprotocol
from serve_app.audio.pcm import SAMPLE_BYTES, PcmStream
from serve_app.audio.recording_stream import RecordingStream
from serve_app.core.errors import InvalidAudio, InvalidMessage, PayloadTooLarge, SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, join
from serve_app.jobs.desk import NewJob
from serve_app.protocols.choices import chosen_languages
from serve_app.protocols.deepgram.live import DeepgramDialect
from serve_app.protocols.deepgram.models import require_model
from serve_app.protocols.deepgram.options import CALLBACKS, ListenOptions, OptionWarning, parse_options
from serve_app.protocols.deepgram.recorded import RequestFacts, listen_body
from serve_app.protocols.deepgram.records import ListenAccepted, ListenAnswer
from serve_app.protocols.dialect import Open, RawAudio
from serve_app.protocols.jobs.messages import MAX_JSON_BYTES, json_parameters
from serve_app.service.contract import RecordingOptions, RecordingTranscript
from serve_app.speakers.turns import SpeakerBackend, SpeakerMode
from serve_app.web.callers import caller_of
from serve_app.web.door import Door, Endpoints
from serve_app.web.errors import error_response
from serve_app.web.live.serve import serve_websocket
from serve_app.web.records import RecordResponse, small_body
from serve_app.web.request_records import current_record
from serve_app.web.token_doors import grant_endpoint
from serve_app.web.uploads import (
    AudioUsage,
    decode_upload,
    open_upload,
    receive_upload,
    while_connected,
)

DEEPGRAM_JOB = "deepgram"
"""The kind of a job that a callback made."""


def deepgram_endpoints(door: Door) -> Endpoints:
    async def listen(request: Request) -> Response:
        with door.transcription():
            return await _listen(request, door)

    async def live(websocket: WebSocket) -> None:
        parameters = websocket.query_params.multi_items()
        dialect = DeepgramDialect(
            parameters,
            request_id=str(uuid.uuid4()),
            created=datetime.now(UTC),
            check_model=lambda name: require_model(name, door.service.status().models),
        )
        if "websocket.http.response" in websocket.scope.get("extensions", {}):
            try:
                require_sense(dialect, door)
            except SottoError as error:
                await websocket.send_denial_response(error_response(websocket.scope, error))
                return
        subprotocol = answered_subprotocol(websocket.scope["subprotocols"])
        await serve_websocket(websocket, door, dialect, subprotocol=subprotocol)

    return {"listen": listen, "deepgram": live, "grantToken": grant_endpoint(door)}


def require_sense(dialect: DeepgramDialect, door: Door) -> None:
    """Raises the `SottoError` of options with which no session could open."""
    for command in dialect.open_at_once():
        if isinstance(command, Open):
            backend = door.settings.diarization_backend
            command.choices.session_options("", door.session_defaults(), backend)


class DecodedListen(NamedTuple):
    """What is transcribed, one after another: a recording's channels, each int16 `(n,)` at 16 kHz, or where
    they are speakers of one transcript `(n, num_channels)`, or the stream of a mixed one; `warning` where
    something is wrong with it, `complete` False where some of it is missing."""

    channels: Sequence[Pcm16 | RecordingStream]
    sha256: str
    warning: str | None = None
    complete: bool = True

    @property
    def duration_s(self) -> float:
        return max(self._lengths_s)

    @property
    def audio_s(self) -> float:
        """Of all channels together."""
        return sum(self._lengths_s)

    @property
    def _lengths_s(self) -> list[float]:
        return [
            channel.duration_s if isinstance(channel, RecordingStream) else len(channel) / SAMPLE_RATE_HZ
            for channel in self.channels
        ]

    @property
    def is_streamed(self) -> bool:
        return isinstance(self.channels[0], RecordingStream)

    def read(self) -> DecodedListen:
        """With what is known of a stream when it has been read to its end."""
        stream = self.channels[0]
        if not isinstance(stream, RecordingStream):
            return self
        return self._replace(warning=stream.warning, complete=stream.complete)

    def answer(
        self,
        transcripts: Sequence[RecordingTranscript],
        options: ListenOptions,
        request_id: str,
        created: datetime,
    ) -> ListenAnswer:
        """With a warning where something is wrong with the audio."""
        kind = "audio" if self.complete else "damaged_audio"
        warnings = [OptionWarning("body", self.warning, kind)] if self.warning else []
        facts = RequestFacts(request_id, self.sha256, created)
        return listen_body(transcripts, options, facts, warnings)


async def _listen(request: Request, door: Door) -> Response:
    request_id, created = str(uuid.uuid4()), datetime.now(UTC)
    options = parse_options(request.query_params.multi_items(), live=False)
    require_model(options.model, door.service.status().models)
    asked = recording_options(options, door.recording_defaults(), door.settings.diarization_backend)
    if options.callback:
        return await _queue(request, door, options, asked)
    upload = await receive_upload(_as_audio(request), door.max_body_bytes, door.upload_memory)
    try:
        usage = door.usage(request.scope)
        recording = await while_connected(
            request, open_listen(upload.file, upload.sha256, options, asked, door, usage)
        )
        if not recording.is_streamed:
            upload.close()
        began_s = perf_counter()
        transcripts = await while_connected(
            request, door.within_time(_transcribe(recording.channels, asked, door))
        )
    finally:
        upload.close()
    recording = recording.read()
    door.metrics.request_done(perf_counter() - began_s, recording.duration_s)
    for transcript in transcripts:
        current_record().transcribed(transcript)
    body = recording.answer(transcripts, options, request_id, created)
    return RecordResponse(body, headers={"dg-request-id": request_id})


async def _queue(request: Request, door: Door, options: ListenOptions, asked: RecordingOptions) -> Response:
    """Answer with the id under which the transcript will be sent to the callback."""
    if door.jobs is None:
        raise InvalidMessage("callback: there is no queue here")
    door.service.require_served(asked)
    parameters = request.query_params.multi_items()
    new = NewJob(
        owner=caller_of(request.scope).key_id,
        address=door.charged_address(request.scope),
        kind=DEEPGRAM_JOB,
        parameters=tuple((name, value) for name, value in parameters if name not in CALLBACKS),
        webhook_url=options.callback,
        webhook_method=options.callback_method,
    )
    if _is_json(request):
        url = await _address_in(request)
        job = await door.jobs.submit(replace(new, url=url))
    else:
        upload = await receive_upload(_as_audio(request), door.max_body_bytes)
        try:
            job = await door.jobs.submit(replace(new, file=upload.file))
        finally:
            upload.close()
    return RecordResponse(ListenAccepted(request_id=job.job_id), headers={"dg-request-id": job.job_id})


async def _address_in(request: Request) -> str:
    """Raises `InvalidMessage` where a JSON body has none."""
    fields = dict(json_parameters(await small_body(request, MAX_JSON_BYTES)))
    if not fields.get("url"):
        raise InvalidMessage("the JSON body has no url")
    return fields["url"]


def _is_json(request: Request) -> bool:
    content_type = request.headers.get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _as_audio(request: Request) -> Request:
    """The same request, its body declared to be audio. Raises `InvalidMessage` for JSON."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if _is_json(request):
        raise InvalidMessage("without callback this server fetches no addresses: send the audio as the body")
    if content_type == "multipart/form-data":
        return request
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    headers.append((b"content-type", b"application/octet-stream"))
    return Request({**request.scope, "headers": headers}, request.receive)


def recording_options(
    options: ListenOptions, defaults: RecordingOptions, backend: SpeakerBackend
) -> RecordingOptions:
    """The server's defaults with these laid over them; words always have their times.

    `backend`: what tells speakers apart there, which it does here for those who ask alone.
    """
    text = options.text
    formatting = defaults.formatting.chosen(smart_format=text.smart_format, numerals=text.numerals)
    detects = options.detect_language or options.multilingual
    language, languages = chosen_languages(
        "auto" if detects else options.language,
        options.detect_among or None,
        defaults.language,
        defaults.languages,
    )
    return replace(
        defaults,
        language=language,
        languages=languages,
        word_timestamps=True,
        hotwords=options.hotwords or defaults.hotwords,
        formatting=formatting,
        speakers=SpeakerMode.of(backend) if options.diarize else SpeakerMode.OFF,
    )


async def _transcribe(
    channels: Sequence[Pcm16 | RecordingStream], options: RecordingOptions, door: Door
) -> list[RecordingTranscript]:
    """One after another: a recording uses what is free of the server anyway."""
    return [await door.service.transcribe(samples, options) for samples in channels]


async def open_listen(
    file: BinaryIO,
    sha256: str,
    options: ListenOptions,
    asked: RecordingOptions,
    door: Door,
    usage: AudioUsage | None = None,
) -> DecodedListen:
    """As it is read where nothing needs the whole of it; charged and raises as `open_upload`."""
    if not (asked.needs_whole or options.multichannel or isinstance(options.audio, RawAudio)):
        opened = await open_upload(file, door, asked, usage)
        if isinstance(opened, RecordingStream):
            return DecodedListen([opened], sha256)
        return DecodedListen([opened.samples], sha256, opened.warning, opened.complete)
    recording = await asyncio.to_thread(_decode_listen, file, sha256, options, asked.speakers, door)
    if usage is not None:
        await usage.audio(recording.audio_s)
    return recording


def _decode_listen(
    file: BinaryIO, sha256: str, options: ListenOptions, speakers: SpeakerMode, door: Door
) -> DecodedListen:
    """Blocking. Raises `InvalidAudio`, `PayloadTooLarge` and the like."""
    split = options.multichannel or speakers is SpeakerMode.CHANNEL
    if isinstance(options.audio, RawAudio):
        samples, warning = _decode_raw(file.read(), replace(options.audio, split_channels=split), door)
        complete = warning is None
    else:
        recording = decode_upload(file, door, keep_channels=split)
        samples, warning, complete = recording.samples, recording.warning, recording.complete
    if not options.multichannel:
        return DecodedListen([samples], sha256, warning, complete)
    one_by_one = [np.ascontiguousarray(channel) for channel in samples.T]
    if speakers is SpeakerMode.CHANNEL:
        one_by_one = [channel[:, np.newaxis] for channel in one_by_one]
    return DecodedListen(one_by_one, sha256, warning, complete)


def _decode_raw(data: bytes, audio: RawAudio, door: Door) -> tuple[Pcm16, str | None]:
    """int16 `(n,)`, or `(n, num_channels)` where they are split, and what was wrong with it."""
    frame_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels
    duration_s = len(data) / frame_bytes / audio.sample_rate_hz
    if duration_s * SAMPLE_RATE_HZ > door.max_audio_samples:
        raise PayloadTooLarge(f"the audio is longer than {door.settings.max_audio_length_seconds:g} s")
    if duration_s < door.settings.min_audio_length_seconds:
        raise InvalidAudio(f"Audio too short: {duration_s:.2f}s")
    left_over = len(data) % frame_bytes
    warning = f"the audio ends within a sample: {left_over} byte(s) left over" if left_over else None
    whole = memoryview(data)[: len(data) - left_over]
    if not audio.split_channels:
        stream = PcmStream(audio.encoding, audio.sample_rate_hz, audio.channels)
        return join([stream.push(bytes(whole)), stream.finish()]), warning
    frames = np.frombuffer(whole, np.uint8).reshape(-1, audio.channels, SAMPLE_BYTES[audio.encoding])
    channels = []
    for channel in range(audio.channels):
        stream = PcmStream(audio.encoding, audio.sample_rate_hz)
        channels.append(join([stream.push(frames[:, channel].tobytes()), stream.finish()]))
    return np.stack(channels, axis=1), warning
