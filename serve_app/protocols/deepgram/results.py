"""The messages of a live stream, server to client, as records: one function for each."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from serve_app.asr.jobs import Word
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
) -> dict[str, Any]:
    words = replace_words(result.words, stream.text.replacements)
    language = result.language if stream.multilingual else ""
    alternative: dict[str, Any] = {
        "transcript": transcript_of(words, punctuated=stream.text.punctuated),
        "confidence": probability(result.confidence),
        "words": word_records(words, stream.text, language),
    }
    if language:
        alternative["languages"] = [language]
    channel: dict[str, Any] = {"alternatives": [alternative]}
    if stream.text.queries and result.is_final:
        channel["search"] = search_records(words, stream.text.queries)
    metadata: dict[str, Any] = {
        "request_id": stream.request_id,
        "model_info": model_info(model),
        "model_uuid": model_uuid(model),
    }
    if warnings:
        metadata["warnings"] = [warning.record() for warning in warnings]
    return {
        "type": "Results",
        "channel_index": channel_index,
        "start": seconds(result.start_s),
        "duration": seconds(max(0.0, result.end_s - result.start_s)),
        "is_final": result.is_final,
        "speech_final": result.speech_final,
        "channel": channel,
        "metadata": metadata,
        "from_finalize": result.from_finalize,
    }


def speech_started_message(channel_index: list[int], at_s: float) -> dict[str, Any]:
    return {"type": "SpeechStarted", "channel": channel_index, "timestamp": seconds(at_s)}


def utterance_end_message(channel_index: list[int], last_word_end_s: float) -> dict[str, Any]:
    return {"type": "UtteranceEnd", "channel": channel_index, "last_word_end": seconds(last_word_end_s)}


def error_message(variant: str, description: str, message: str | None = None) -> dict[str, Any]:
    """`message`: the client's own, where it could not be understood."""
    error: dict[str, Any] = {"type": "Error", "variant": variant, "description": _sendable(description)}
    if message is not None:
        error["message"] = _sendable(message)
    return error


def _sendable(text: str) -> str:
    """Half a surrogate pair, which a hostile frame may hold, is no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def model_info(model: str) -> dict[str, str]:
    return {"name": model or "default", "version": "latest", "arch": "whisper"}


def model_uuid(model: str) -> str:
    """The same for the same model, on every server."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"whisper:{model}"))


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
