"""What OpenAI's recording endpoints answer: JSON bodies and server-sent events, from a `RecordingTranscript`.

`logprobs` has one entry per word: Whisper's tokens are no longer at hand behind the recognisers, so a token
here is a word as written, with the logarithm of that word's probability. `tokens` of a segment is empty for
the same reason. `usage` counts seconds of audio; OpenAI's `transcript.text.done` knows tokens only, so that
event has none. Speakers are called `A`, `B` and so on; an empty name is that of somebody unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from serve_app.asr.repetition import compression_ratio
from serve_app.core.errors import SottoError
from serve_app.core.jobs import Task, Word
from serve_app.models.languages import LANGUAGES
from serve_app.protocols.openai import records
from serve_app.protocols.openai.errors import error_fields
from serve_app.protocols.openai.request import ResponseFormat, TranscriptionRequest
from serve_app.protocols.spoken_words import spoken_form
from serve_app.service.contract import RecordingSegment, RecordingTranscript
from serve_app.speakers.turns import openai_label
from sotto_client.wire import Written

EVENT_STREAM_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: nothing to say yet, but the stream is alive."""

MIN_LOGPROB = -20.0
"""For a probability of zero, whose logarithm JSON cannot say."""

_encoder = msgspec.json.Encoder()


def transcription_body(
    transcript: RecordingTranscript, request: TranscriptionRequest, task: Task
) -> records.Transcription | records.VerboseTranscription | records.DiarizedTranscription:
    """The `json`, `verbose_json` or `diarized_json` body."""
    if request.response_format is ResponseFormat.VERBOSE_JSON:
        return _verbose(transcript, request, task)
    if request.response_format is ResponseFormat.DIARIZED_JSON:
        return _diarized(transcript, task)
    translated = task is Task.TRANSLATE
    return records.Transcription(
        text=transcript.text.strip(),
        logprobs=logprobs(_words(transcript)) if request.wants_logprobs else UNSET,
        languages=UNSET if translated else languages(transcript.language),
        usage=UNSET if translated else usage(transcript.duration_s),
    )


def _diarized(transcript: RecordingTranscript, task: Task) -> records.DiarizedTranscription:
    return records.DiarizedTranscription(
        task=task.value,
        duration=round(transcript.duration_s, 3),
        text=transcript.text.strip(),
        segments=[_spoken_segment(index, part) for index, part in enumerate(transcript.segments)],
        usage=usage(transcript.duration_s),
    )


def _spoken_segment(index: int, segment: RecordingSegment) -> records.TextSegment:
    """A segment and its speaker, in the body and as an event alike."""
    return records.TextSegment(
        id=_segment_id(index),
        start=round(segment.start_s, 3),
        end=round(segment.end_s, 3),
        text=segment.text.strip(),
        speaker=_speaker(segment),
    )


def _segment_id(index: int) -> str:
    return f"seg_{index:03d}"


def _speaker(segment: RecordingSegment) -> str:
    return "" if segment.speaker is None else openai_label(segment.speaker)


def _verbose(
    transcript: RecordingTranscript, request: TranscriptionRequest, task: Task
) -> records.VerboseTranscription:
    # OpenAI names the language of the text: that of a translation is English
    language = "en" if task is Task.TRANSLATE else transcript.language
    temperature, labelled = request.temperature or 0.0, transcript.num_speakers is not None
    segments = [_segment(i, part, temperature, labelled) for i, part in enumerate(transcript.segments)]
    words = [
        records.TimedWord(word=spoken, start=round(word.start_s, 3), end=round(word.end_s, 3))
        for word in _words(transcript)
        if (spoken := spoken_form(word.word))
    ]
    return records.VerboseTranscription(
        task=task.value,
        language=LANGUAGES.get(language, language).lower(),
        duration=round(transcript.duration_s, 3),
        text=transcript.text.strip(),
        segments=segments if request.wants_segments else UNSET,
        words=words if request.wants_words else UNSET,
        usage=usage(transcript.duration_s),
    )


def _segment(index: int, segment: RecordingSegment, temperature: float, labelled: bool) -> records.Segment:
    return records.Segment(
        id=index,
        seek=round(segment.start_s * 100),
        start=round(segment.start_s, 3),
        end=round(segment.end_s, 3),
        # with the space that Whisper writes before a segment, so that the texts joined are the text
        text=f" {segment.text.strip()}",
        tokens=[],
        temperature=temperature,
        avg_logprob=_finite(segment.avg_logprob),
        compression_ratio=round(compression_ratio(segment.text.strip()), 4),
        no_speech_prob=_finite(segment.no_speech_prob),
        speaker=_speaker(segment) if labelled else UNSET,
    )


class StreamedTranscript:
    """The events of one streamed answer; the deltas put together are the text of `transcript.text.done`."""

    def __init__(self, request: TranscriptionRequest) -> None:
        self._request = request
        self._num_segments = 0

    def segment(self, segment: RecordingSegment) -> bytes:
        """A delta; with `verbose_json` and `diarized_json` the segment with its times and speaker too."""
        text, response_format = segment.text.strip(), self._request.response_format
        diarized = response_format is ResponseFormat.DIARIZED_JSON
        delta = records.TextDelta(
            delta=text if self._num_segments == 0 else f" {text}",
            logprobs=logprobs(segment.words) if self._request.wants_logprobs else UNSET,
            segment_id=_segment_id(self._num_segments) if diarized else UNSET,
        )
        frames = _event(delta)
        if diarized or response_format is ResponseFormat.VERBOSE_JSON:
            frames += _event(_spoken_segment(self._num_segments, segment))
        self._num_segments += 1
        return frames

    def done(
        self, transcript: RecordingTranscript, warning: str | None = None, *, complete: bool = True
    ) -> bytes:
        """The whole text, which goes last; `warning`: what was found too late for the headers."""
        done = records.TextDone(
            text=transcript.text.strip(),
            logprobs=logprobs(_words(transcript)) if self._request.wants_logprobs else UNSET,
            languages=languages(transcript.language),
            warning=warning or UNSET,
            complete=complete if warning else UNSET,
        )
        return _event(done)

    def failed(self, error: SottoError) -> bytes:
        """What goes last instead, once the status has been sent."""
        return _event(records.Error(error=error_fields(error), type="error"))


def logprobs(words: Iterable[Word]) -> list[records.Logprob]:
    """One entry per word."""
    return [
        records.Logprob(token=word.word, bytes=list(word.word.encode()), logprob=logprob(word.probability))
        for word in words
    ]


def logprob(probability: float) -> float:
    if not probability > 0.0:
        return MIN_LOGPROB
    return round(max(MIN_LOGPROB, math.log(min(1.0, probability))), 4)


def languages(code: str) -> list[records.Language]:
    return [records.Language(code=code)] if code else []


def usage(seconds: float) -> records.Usage:
    return records.Usage(seconds=round(seconds, 3))


def _words(transcript: RecordingTranscript) -> Iterable[Word]:
    return (word for segment in transcript.segments for word in segment.words)


def _event(body: Written) -> bytes:
    return b"data: " + _encoder.encode(body) + b"\n\n"


def _finite(value: float) -> float:
    return round(value, 4) if math.isfinite(value) else 0.0
