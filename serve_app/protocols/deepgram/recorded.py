"""Deepgram's answer for a recording, `POST /v1/listen`, and its errors.

Speakers are numbers from 0, at words, utterances and paragraphs, which end where another speaker begins.
There is no figure of how sure a speaker is, so `speaker_confidence` is left out.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from serve_app.asr.jobs import Word
from serve_app.errors import CapacityError, PayloadTooLarge, ServerError, SottoError
from serve_app.protocols.deepgram.options import ListenOptions, OptionWarning
from serve_app.protocols.deepgram.results import model_info, model_uuid, timestamp
from serve_app.protocols.deepgram.wording import (
    mean_probability,
    probability,
    replace_words,
    search_records,
    seconds,
    timed_words,
    transcript_of,
    word_records,
)
from serve_app.service import RecordingTranscript

PARAGRAPH_GAP_S: Final = 2.0
MAX_PARAGRAPH_SENTENCES: Final = 5
"""A pause as long, or so many sentences, end a paragraph."""

_SENTENCE_END: Final = re.compile(r"[.?!…。？！][\"'”’)\]»]*$")


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What the answer says of the request itself; `sha256` of the body."""

    request_id: str
    sha256: str
    created: datetime


def listen_body(
    transcripts: Sequence[RecordingTranscript],
    options: ListenOptions,
    request: RequestFacts,
    warnings: Sequence[OptionWarning] = (),
) -> dict[str, Any]:
    """The answer; a transcript for each channel."""
    channels = [_words_of(transcript, options) for transcript in transcripts]
    results: dict[str, Any] = {
        "channels": [
            _channel(words, transcript, options)
            for words, transcript in zip(channels, transcripts, strict=True)
        ]
    }
    if options.utterances:
        results["utterances"] = _utterances(channels, transcripts, options, request.request_id)
    return {"metadata": _metadata(transcripts, options, request, warnings), "results": results}


def _metadata(
    transcripts: Sequence[RecordingTranscript],
    options: ListenOptions,
    request: RequestFacts,
    warnings: Sequence[OptionWarning],
) -> dict[str, Any]:
    model = transcripts[0].model
    metadata: dict[str, Any] = {
        "transaction_key": "deprecated",
        "request_id": request.request_id,
        "sha256": request.sha256,
        "created": timestamp(request.created),
        "duration": seconds(max(transcript.duration_s for transcript in transcripts)),
        "channels": len(transcripts),
        "models": [model_uuid(model)],
        "model_info": {model_uuid(model): model_info(model)},
    }
    if options.tags:
        metadata["tags"] = list(options.tags)
    if options.extra:
        metadata["extra"] = dict(options.extra)
    if all_warnings := (*options.warnings, *warnings):
        metadata["warnings"] = [warning.record() for warning in all_warnings]
    return metadata


def _words_of(transcript: RecordingTranscript, options: ListenOptions) -> tuple[Word, ...]:
    words: list[Word] = []
    for part in transcript.segments:
        first, *rest = timed_words(
            part.words, part.text, part.start_s, part.end_s, part.confidence, part.speaker
        ) or (None,)
        if first is not None:
            words += [replace(first, word=f" {first.word.lstrip()}"), *rest]
    return replace_words(words, options.text.replacements)


def _channel(
    words: Sequence[Word], transcript: RecordingTranscript, options: ListenOptions
) -> dict[str, Any]:
    language = transcript.language if options.multilingual else ""
    alternative: dict[str, Any] = {
        "transcript": transcript_of(words, punctuated=options.text.punctuated),
        "confidence": mean_probability(words),
        "words": word_records(words, options.text, language),
    }
    if language:
        alternative["languages"] = [language]
    if options.paragraphs:
        alternative["paragraphs"] = _paragraphs(words, options)
    channel: dict[str, Any] = {"alternatives": [alternative]}
    if options.text.queries:
        channel["search"] = search_records(words, options.text.queries)
    if options.language is None and transcript.language:
        channel["detected_language"] = transcript.language
        channel["language_confidence"] = probability(transcript.language_probability)
    return channel


def _utterances(
    channels: Sequence[Sequence[Word]],
    transcripts: Sequence[RecordingTranscript],
    options: ListenOptions,
    request_id: str,
) -> list[dict[str, Any]]:
    """Stretches of one speaker between pauses of `utterance_split_s`, of all channels in the order of their
    beginning."""
    utterances = []
    for channel, (words, transcript) in enumerate(zip(channels, transcripts, strict=True)):
        language = transcript.language if options.multilingual else ""
        for index, part in enumerate(_split(words, options.utterance_split_s)):
            utterance: dict[str, Any] = {
                "start": seconds(part[0].start_s),
                "end": seconds(part[-1].end_s),
                "confidence": mean_probability(part),
                "channel": channel,
                "transcript": transcript_of(part, punctuated=options.text.punctuated),
                "words": word_records(part, options.text, language),
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{request_id}/{channel}/{index}")),
            }
            if language:
                utterance["languages"] = [language]
            if part[0].speaker is not None:
                utterance["speaker"] = part[0].speaker
            utterances.append(utterance)
    return sorted(utterances, key=lambda utterance: utterance["start"])


def _split(words: Sequence[Word], gap_s: float) -> Iterator[list[Word]]:
    """At pauses and where another speaker begins."""
    part: list[Word] = []
    for word in words:
        if part and (word.start_s - part[-1].end_s >= gap_s or word.speaker != part[-1].speaker):
            yield part
            part = []
        part.append(word)
    if part:
        yield part


def _paragraphs(words: Sequence[Word], options: ListenOptions) -> dict[str, Any]:
    paragraphs: list[dict[str, Any]] = []
    texts: list[str] = []
    named: int | None = None
    for stretch in _split(words, PARAGRAPH_GAP_S):
        sentences = list(_sentences(stretch))
        speaker = stretch[0].speaker
        for first in range(0, len(sentences), MAX_PARAGRAPH_SENTENCES):
            some = sentences[first : first + MAX_PARAGRAPH_SENTENCES]
            records = [_sentence(sentence, options) for sentence in some]
            text = " ".join(record["text"] for record in records)
            texts.append(text if speaker in (None, named) else f"Speaker {speaker}: {text}")
            named = speaker
            paragraphs.append(
                {
                    "sentences": records,
                    **({} if speaker is None else {"speaker": speaker}),
                    "num_words": sum(len(word_records(part, options.text)) for part in some),
                    "start": records[0]["start"],
                    "end": records[-1]["end"],
                }
            )
    return {"transcript": "\n" + "\n\n".join(texts), "paragraphs": paragraphs}


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        sentence.append(word)
        if _SENTENCE_END.search(word.word.strip()):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _sentence(words: Sequence[Word], options: ListenOptions) -> dict[str, Any]:
    return {
        "text": transcript_of(words, punctuated=options.text.punctuated),
        "start": seconds(words[0].start_s),
        "end": seconds(words[-1].end_s),
    }


def error_body(error: SottoError, request_id: str) -> dict[str, str]:
    """Deepgram's error; the HTTP status is that of the error."""
    return {"err_code": _error_code(error), "err_msg": str(error), "request_id": request_id}


def _error_code(error: SottoError) -> str:
    if isinstance(error, PayloadTooLarge):
        return "PAYLOAD_TOO_LARGE"
    if isinstance(error, CapacityError):
        return "TOO_MANY_REQUESTS" if error.http_status == 429 else "SERVICE_UNAVAILABLE"
    if isinstance(error, ServerError):
        return "SERVICE_UNAVAILABLE" if error.http_status == 503 else "INTERNAL_SERVER_ERROR"
    return "Bad Request"
