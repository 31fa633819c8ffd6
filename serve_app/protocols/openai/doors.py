"""OpenAI's doors: recordings, models, and Realtime with the secrets that open it."""

from __future__ import annotations

from typing import Final

from serve_app.access.caller import Scope
from serve_app.protocols.documents import realtime_commands as commands
from serve_app.protocols.doors import Answer, Channel, Form, Operation, Query, messages
from serve_app.protocols.openai import realtime_records as realtime
from serve_app.protocols.openai import records as openai
from serve_app.protocols.openai.answer import EVENT_STREAM_TYPE
from serve_app.protocols.openai.handshake import REALTIME_PATH
from serve_app.protocols.openai.realtime_session import SessionUpdate
from serve_app.protocols.openai.request import LISTS, TranscriptionRequest

_CHUNKING: Final = {
    "chunking_strategy": "`auto`, or a JSON object `{type: server_vad, threshold, prefix_padding_ms, "
    "silence_duration_ms}`."
}


def _recordings(path: str, name: str, summary: str) -> Operation:
    events = openai.TextDelta | openai.TextSegment | openai.TextDone
    return Operation(
        method="post",
        path=path,
        name=name,
        tag="openai",
        summary=summary,
        description="With `stream=true`: server-sent events; the last is `transcript.text.done`.",
        form=Form(TranscriptionRequest, LISTS, _CHUNKING),
        answers=(
            Answer(
                record=(openai.Transcription, openai.VerboseTranscription, openai.DiarizedTranscription),
                texts=("text/plain", "application/x-subrip", "text/vtt"),
                streams={EVENT_STREAM_TYPE: events},
            ),
        ),
        errors=(400, 404, 413, 500, 503, 504),
        error=openai.Error,
        prefix="OpenAI",
    )


DOORS: Final = (
    Channel(
        path=REALTIME_PATH,
        name="openaiRealtime",
        summary="OpenAI's Realtime transcription, GA and beta",
        queries=(Query(commands.RealtimeQuery),),
        received=messages(
            commands.Update, commands.BetaUpdate, commands.Append, commands.Commit, commands.Clear
        ),
        sent=messages(
            realtime.Created,
            realtime.Updated,
            realtime.BetaCreated,
            realtime.BetaUpdated,
            realtime.SpeechStarted,
            realtime.SpeechStopped,
            realtime.Committed,
            realtime.Cleared,
            realtime.ItemCreated,
            realtime.ItemAdded,
            realtime.ItemDone,
            realtime.Delta,
            realtime.Segment,
            realtime.Completed,
            realtime.Failed,
            realtime.Error,
        ),
        prefix="Realtime",
    ),
    _recordings("/v1/audio/transcriptions", "createTranscription", "OpenAI's: a recording to text"),
    _recordings("/v1/audio/translations", "createTranslation", "OpenAI's: a recording to English text"),
    Operation(
        "get", "/v1/models", "listModels", "openai", "OpenAI's: names that the loaded models answer to",
        (Answer(record=openai.ModelList),), error=openai.Error, prefix="OpenAI", scope=None,
    ),
    Operation(
        "get", "/v1/models/{name:path}", "retrieveModel", "openai", "OpenAI's: one of them",
        (Answer(record=openai.Model),), errors=(404, 503), error=openai.Error, prefix="OpenAI", scope=None,
    ),
    Operation(
        "post", "/v1/realtime/client_secrets", "createClientSecret", "openai",
        "OpenAI's: a secret with which a browser opens `/v1/realtime`",
        (Answer(record=realtime.ClientSecret),),
        json=commands.ClientSecretRequest, errors=(400,), error=openai.Error, prefix="Realtime",
        scope=Scope.LIVE, takes_tokens=False,
    ),
    Operation(
        "post", "/v1/realtime/transcription_sessions", "createTranscriptionSession", "openai",
        "OpenAI's beta: the same",
        (Answer(record=realtime.BetaSession),),
        json=SessionUpdate, errors=(400,), error=openai.Error, prefix="Realtime",
        scope=Scope.LIVE, takes_tokens=False,
    ),
)  # fmt: skip
