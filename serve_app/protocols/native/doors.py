"""The doors of the native protocol: a WebSocket, one request with NDJSON, and recordings."""

from __future__ import annotations

from typing import Final, get_args

from serve_app.access.caller import Scope
from serve_app.protocols.choices import SessionQuery
from serve_app.protocols.doors import AUDIO_TYPES, Answer, Channel, Form, Message, Operation, Query, messages
from serve_app.protocols.native import messages as native
from serve_app.protocols.native import ndjson, opus_stream, tokens
from serve_app.protocols.native.dialect import NativeDialect, TextOptions
from serve_app.protocols.native.transcribe import UploadChoices
from sotto_client import wire

_EVENTS: Final = messages(*get_args(wire.Event))


def _opus_stream(path: str, name: str) -> Channel:
    return Channel(
        path=path,
        name=name,
        summary="A browser's ogg/opus or webm/opus recording in, native events out",
        queries=(Query(SessionQuery), Query(opus_stream.OpusStreamOptions)),
        received=(
            Message("audio", summary="A container's bytes, cut anywhere, or raw samples."),
            Message("control", opus_stream.Control, "flush, end_session, cancel, ping or pong."),
        ),
        sent=(*_EVENTS, *messages(wire.Ping, wire.Pong)),
        dialect=lambda opening: opus_stream.OpusStreamDialect(opening.parameters, ping_s=opening.heartbeat_s),
    )


DOORS: Final = (
    Channel(
        path="/ws/stt",
        name="native",
        summary="The native protocol",
        queries=(Query(TextOptions),),
        received=(
            Message("audio", summary="Whole raw samples, as `start_session.config` announced them."),
            *messages(native.StartSession, native.Flush, native.EndSession, native.Cancel),
        ),
        sent=_EVENTS,
        dialect=lambda opening: NativeDialect(opening.parameters),
    ),
    _opus_stream("/ws/stream", "opusStream"),
    _opus_stream("/api/ws/stream", "opusStreamApi"),
    Operation(
        method="post",
        path="/transcribe",
        name="transcribe",
        tag="recordings",
        summary="A recording to text",
        description="Options come as query parameters or form fields; one given twice must be the same.",
        query=Query(UploadChoices),
        form=Form(UploadChoices),
        audio=AUDIO_TYPES,
        answers=(Answer(record=wire.Transcript, texts=("text/plain", "application/x-subrip", "text/vtt")),),
        errors=(400, 413, 415, 500, 503),
    ),
    Operation(
        method="post",
        path="/transcribe/stream",
        name="transcribeStream",
        tag="recordings",
        summary="Audio in and text out over one request, both at once",
        description="A line of JSON for every event; the last is `session_ended`. Raw samples come as "
        "`audio/pcm;rate=16000;encoding=pcm16;channels=1`, containers as they are.",
        query=Query(SessionQuery),
        audio=AUDIO_TYPES,
        answers=(Answer(streams={ndjson.MEDIA_TYPE: wire.Event | wire.Heartbeat}),),
        errors=(400, 409, 415, 500, 503),
        scope=Scope.LIVE,
    ),
    Operation(
        method="post",
        path="/auth/token",
        name="createToken",
        tag="access",
        summary="A short-lived token for a browser",
        json=tokens.TokenRequest,
        answers=(Answer(record=tokens.TokenAnswer),),
        errors=(400, 413),
        scope=None,
        takes_tokens=False,
    ),
)
