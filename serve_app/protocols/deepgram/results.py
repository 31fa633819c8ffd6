"""The results and errors of a live stream, server to client."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from msgspec import UNSET, UnsetType

from serve_app.core.jobs import Word
from serve_app.protocols.deepgram import records
from serve_app.protocols.deepgram.options import OptionWarning, TextOptions
from serve_app.protocols.deepgram.wording import (
    probability,
    replace_words,
    search_records,
    seconds,
    transcript_of,
    word_records,
)


@dataclass(frozen=True, slots=True)
class Result:
    """What one `Results` message says; `words` on the stream's clock."""

    start_s: float
    end_s: float
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    language: str = ""
    is_final: bool = True
    speech_final: bool = False
    from_finalize: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """What every message of one request repeats."""

    request_id: str
    created: datetime
    text: TextOptions = field(default_factory=TextOptions)
    multilingual: bool = False


def results_message(
    result: Result, stream: Stream, channel_index: list[int], model: str, warnings: Sequence[OptionWarning]
) -> records.Results:
    words = replace_words(result.words, stream.text.replacements)
    language = result.language if stream.multilingual else ""
    alternative = records.Alternative(
        transcript=transcript_of(words, punctuated=stream.text.punctuated),
        confidence=probability(result.confidence),
        words=word_records(words, stream.text, language),
        languages=[language] if language else UNSET,
    )
    searched = stream.text.queries and result.is_final
    return records.Results(
        channel_index=channel_index,
        start=seconds(result.start_s),
        duration=seconds(max(0.0, result.end_s - result.start_s)),
        is_final=result.is_final,
        speech_final=result.speech_final,
        channel=records.Channel(
            alternatives=[alternative],
            search=search_records(words, stream.text.queries) if searched else UNSET,
        ),
        metadata=records.ResultMetadata(
            request_id=stream.request_id,
            model_info=records.ModelInfo(name=model or "default"),
            model_uuid=model_uuid(model),
            warnings=warning_records(warnings),
        ),
        from_finalize=result.from_finalize,
    )


def warning_records(warnings: Sequence[OptionWarning]) -> list[records.OptionWarning] | UnsetType:
    return [warning.record() for warning in warnings] or UNSET


def error_message(variant: str, description: str, message: str | None = None) -> records.Error:
    """`message`: the client's own, where it could not be understood."""
    return records.Error(
        variant=variant,
        description=_sendable(description),
        message=UNSET if message is None else _sendable(message),
    )


def _sendable(text: str) -> str:
    """Half a surrogate pair, which a hostile frame may hold, is no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def model_uuid(model: str) -> str:
    """The same for the same model, on every server."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"whisper:{model}"))


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
