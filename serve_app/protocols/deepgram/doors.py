"""Deepgram's door, `/v1/listen`, live and for recordings."""

from __future__ import annotations

from typing import Final

from serve_app.protocols.deepgram import grant
from serve_app.protocols.deepgram import live as deepgram
from serve_app.protocols.deepgram import options as listen
from serve_app.protocols.deepgram import records as deepgram_records
from serve_app.protocols.doors import AUDIO_TYPES, Answer, Channel, Message, Operation, Query, messages

PATH: Final = "/v1/listen"
GRANT_PATH: Final = "/v1/auth/grant"
_UNSERVED: Final = ", ".join(f"`{name}`" for name in listen.NOT_SERVED)

DOORS: Final = (
    Channel(
        path=PATH,
        name="deepgram",
        summary="Deepgram's live protocol",
        queries=(Query(listen.ListenQuery, listen.RECORDED_ONLY, listen.REPEATED),),
        received=(
            Message("audio", summary="Raw samples or a container; an empty frame is the end."),
            *messages(deepgram.KeepAliveMessage, deepgram.Finalize, deepgram.CloseStream, deepgram.Configure),
        ),
        sent=messages(
            deepgram_records.Results,
            deepgram_records.SpeechStarted,
            deepgram_records.UtteranceEnd,
            deepgram_records.Metadata,
            deepgram_records.Error,
            deepgram_records.ConfigureSuccess,
            deepgram_records.ConfigureFailure,
        ),
        prefix="Deepgram",
    ),
    Operation(
        method="post",
        path=PATH,
        name="listen",
        tag="deepgram",
        summary="Deepgram's: a recording to text",
        description="The body is the audio, whatever its content type; an address to fetch (`url`) is taken "
        f"with `callback` alone. Accepted with a warning in `metadata.warnings`: {_UNSERVED}. Refused: "
        "`redact`.",
        query=Query(listen.ListenQuery, listen.LIVE_ONLY, listen.REPEATED),
        audio=AUDIO_TYPES,
        answers=(Answer(record=(deepgram_records.ListenAnswer, deepgram_records.ListenAccepted)),),
        errors=(400, 413, 415, 500, 503, 504),
        error=deepgram_records.ListenError,
        prefix="Deepgram",
    ),
    Operation(
        method="post",
        path=GRANT_PATH,
        name="grantToken",
        tag="deepgram",
        summary="Deepgram's: a short-lived token for a browser",
        json=grant.GrantRequest,
        answers=(Answer(record=grant.GrantAnswer),),
        errors=(400, 413),
        error=deepgram_records.ListenError,
        prefix="Deepgram",
        scope=None,
        takes_tokens=False,
    ),
)
