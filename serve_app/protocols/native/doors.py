"""The doors of the native protocol: a WebSocket, one request with NDJSON, and recordings."""

from __future__ import annotations

from typing import Final, get_args

from serve_app.access.caller import Scope
from serve_app.protocols.choices import SessionQuery
from serve_app.protocols.doors import AUDIO_TYPES, Answer, Channel, Form, Message, Operation, Query, messages
from serve_app.protocols.native import clips, ndjson, opus_stream, tokens
from serve_app.protocols.native import messages as native
from serve_app.protocols.native.dialect import NativeDialect, TextOptions
from serve_app.protocols.native.transcribe import UploadChoices
from sotto_client import wire

TRANSCRIBE_PATH: Final = "/api/transcribe"

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


_TEXTS: Final = ("text/plain", "application/x-subrip", "text/vtt", "text/tab-separated-values")
_SHORT: Final = Answer(record=clips.ShortTranscript, texts=_TEXTS, streams={ndjson.MEDIA_TYPE: wire.Segment})


_QUEUED: Final = Answer(202, "With `webhook_url`: it is in the queue.", wire.JobStatus)


def _single_step(path: str, name: str) -> Operation:
    return Operation(
        method="post",
        path=path,
        name=name,
        tag="clips",
        summary="A recording to text, with speakers, in one request",
        description="As `/api/transcribe` for a clip; the recording is not stored.",
        query=Query(clips.ClipChoices, frozenset({"clip_id"})),
        form=Form(UploadChoices),
        audio=AUDIO_TYPES,
        answers=(_SHORT, _QUEUED),
        errors=(400, 413, 415, 500, 503),
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
        answers=(Answer(record=wire.Transcript, texts=_TEXTS, streams={ndjson.MEDIA_TYPE: wire.Segment}),),
        errors=(400, 413, 415, 500, 503, 504),
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
    Operation(
        method="post",
        path="/api/audio",
        name="storeClip",
        tag="clips",
        summary="Store a recording",
        description="It is decoded first: what is no audio is refused, whatever it is called.",
        form=Form(clips.StoreChoices),
        audio=AUDIO_TYPES[:2],
        answers=(Answer(record=clips.ClipStored),),
        errors=(400, 409, 413, 415, 503),
    ),
    Operation(
        method="get",
        path="/api/audio",
        name="listClips",
        tag="clips",
        summary="The newest stored recordings of this key",
        query=Query(clips.ClipQuery),
        answers=(Answer(record=clips.ClipList),),
        errors=(400, 409, 503),
    ),
    Operation(
        method="get",
        path="/api/audio/{clip_id}",
        name="clip",
        tag="clips",
        summary="What is known of a stored recording",
        answers=(Answer(record=clips.ClipInfo),),
        errors=(404, 409, 503),
    ),
    Operation(
        method="delete",
        path="/api/audio/{clip_id}",
        name="deleteClip",
        tag="clips",
        summary="Delete a stored recording",
        answers=(Answer(record=clips.ClipDeleted),),
        errors=(404, 409, 503),
    ),
    Operation(
        method="post",
        path=TRANSCRIBE_PATH,
        name="transcribeClip",
        tag="clips",
        summary="A stored recording, or one that is sent, to text",
        description="With `clip_id` speakers are told apart unless `diarize` is false, and errors are "
        '`{"detail": ...}`. Without, the body is transcribed as by `/transcribe`, and errors are '
        '`{"error": ...}`.',
        query=Query(clips.ClipChoices),
        form=Form(UploadChoices),
        audio=AUDIO_TYPES,
        may_be_empty=True,
        answers=(_SHORT, _QUEUED),
        errors=(400, 404, 409, 413, 415, 500, 503),
        error=(clips.ErrorText, wire.Detail),
    ),
    _single_step("/upload+transcribe", "uploadAndTranscribe"),
    _single_step("/api/upload+transcribe", "uploadAndTranscribeApi"),
)
