"""Deepgram's answer for a recording, `POST /v1/listen`, and its errors.

Speakers are numbers from 0, at words, utterances and paragraphs, which end where another speaker begins.
There is no figure of how sure a speaker is, so `speaker_confidence` is left out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from msgspec import UNSET

from serve_app.core.errors import (
    CapacityError,
    InvalidKey,
    PayloadTooLarge,
    ServerError,
    SottoError,
    WrongScope,
)
from serve_app.core.jobs import Word
from serve_app.models.languages.writing import SENTENCE_END
from serve_app.protocols.deepgram import records
from serve_app.protocols.deepgram.options import ListenOptions, OptionWarning
from serve_app.protocols.deepgram.results import model_uuid, timestamp, warning_records
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
from serve_app.service.contract import RecordingTranscript

PARAGRAPH_GAP_S: Final = 2.0
MAX_PARAGRAPH_SENTENCES: Final = 5
"""A pause as long, or so many sentences, end a paragraph."""


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
) -> records.ListenAnswer:
    """The answer; a transcript for each channel."""
    channels = [_words_of(transcript, options) for transcript in transcripts]
    return records.ListenAnswer(
        metadata=_metadata(transcripts, options, request, warnings),
        results=records.RecordedResults(
            channels=[
                _channel(words, transcript, options)
                for words, transcript in zip(channels, transcripts, strict=True)
            ],
            utterances=_utterances(channels, transcripts, options, request.request_id)
            if options.utterances
            else UNSET,
        ),
    )


def _metadata(
    transcripts: Sequence[RecordingTranscript],
    options: ListenOptions,
    request: RequestFacts,
    warnings: Sequence[OptionWarning],
) -> records.RecordedMetadata:
    model = transcripts[0].model
    return records.RecordedMetadata(
        request_id=request.request_id,
        sha256=request.sha256,
        created=timestamp(request.created),
        duration=seconds(max(transcript.duration_s for transcript in transcripts)),
        channels=len(transcripts),
        models=[model_uuid(model)],
        model_info={model_uuid(model): records.ModelInfo(name=model or "default")},
        tags=list(options.tags) or UNSET,
        extra=dict(options.extra) or UNSET,
        warnings=warning_records((*options.warnings, *warnings)),
    )


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
) -> records.Channel:
    language = transcript.language if options.multilingual else ""
    alternative = records.Alternative(
        transcript=transcript_of(words, punctuated=options.text.punctuated),
        confidence=mean_probability(words),
        words=word_records(words, options.text, language),
        languages=[language] if language else UNSET,
        paragraphs=_paragraphs(words, options) if options.paragraphs else UNSET,
    )
    detected = options.language is None and bool(transcript.language)
    return records.Channel(
        alternatives=[alternative],
        search=search_records(words, options.text.queries) if options.text.queries else UNSET,
        detected_language=transcript.language if detected else UNSET,
        language_confidence=probability(transcript.language_probability) if detected else UNSET,
    )


def _utterances(
    channels: Sequence[Sequence[Word]],
    transcripts: Sequence[RecordingTranscript],
    options: ListenOptions,
    request_id: str,
) -> list[records.Utterance]:
    """Stretches of one speaker between pauses of `utterance_split_s`, of all channels in the order of their
    beginning."""
    utterances = []
    for channel, (words, transcript) in enumerate(zip(channels, transcripts, strict=True)):
        language = transcript.language if options.multilingual else ""
        for index, part in enumerate(_split(words, options.utterance_split_s)):
            speaker = part[0].speaker
            utterances.append(
                records.Utterance(
                    start=seconds(part[0].start_s),
                    end=seconds(part[-1].end_s),
                    confidence=mean_probability(part),
                    channel=channel,
                    transcript=transcript_of(part, punctuated=options.text.punctuated),
                    words=word_records(part, options.text, language),
                    id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{request_id}/{channel}/{index}")),
                    languages=[language] if language else UNSET,
                    speaker=UNSET if speaker is None else speaker,
                )
            )
    return sorted(utterances, key=lambda utterance: utterance.start)


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


def _paragraphs(words: Sequence[Word], options: ListenOptions) -> records.Paragraphs:
    paragraphs: list[records.Paragraph] = []
    texts: list[str] = []
    named: int | None = None
    for stretch in _split(words, PARAGRAPH_GAP_S):
        sentences = list(_sentences(stretch))
        speaker = stretch[0].speaker
        for first in range(0, len(sentences), MAX_PARAGRAPH_SENTENCES):
            some = sentences[first : first + MAX_PARAGRAPH_SENTENCES]
            written = [_sentence(sentence, options) for sentence in some]
            text = " ".join(sentence.text for sentence in written)
            texts.append(text if speaker in (None, named) else f"Speaker {speaker}: {text}")
            named = speaker
            paragraphs.append(
                records.Paragraph(
                    sentences=written,
                    speaker=UNSET if speaker is None else speaker,
                    num_words=sum(len(word_records(part, options.text)) for part in some),
                    start=written[0].start,
                    end=written[-1].end,
                )
            )
    return records.Paragraphs(transcript="\n" + "\n\n".join(texts), paragraphs=paragraphs)


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        sentence.append(word)
        if SENTENCE_END.search(word.word.strip()):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _sentence(words: Sequence[Word], options: ListenOptions) -> records.Sentence:
    return records.Sentence(
        text=transcript_of(words, punctuated=options.text.punctuated),
        start=seconds(words[0].start_s),
        end=seconds(words[-1].end_s),
    )


def error_body(error: SottoError, request_id: str) -> records.ListenError:
    """Deepgram's error; the HTTP status is that of the error."""
    return records.ListenError(err_code=_error_code(error), err_msg=str(error), request_id=request_id)


def _error_code(error: SottoError) -> str:
    if isinstance(error, InvalidKey):
        return "INVALID_AUTH"
    if isinstance(error, WrongScope):
        return "INSUFFICIENT_PERMISSIONS"
    if isinstance(error, PayloadTooLarge):
        return "PAYLOAD_TOO_LARGE"
    if isinstance(error, CapacityError):
        return "TOO_MANY_REQUESTS" if error.http_status == 429 else "SERVICE_UNAVAILABLE"
    if isinstance(error, ServerError):
        if error.http_status == 504:
            return "GATEWAY_TIMEOUT"
        return "SERVICE_UNAVAILABLE" if error.http_status == 503 else "INTERNAL_SERVER_ERROR"
    return "Bad Request"
