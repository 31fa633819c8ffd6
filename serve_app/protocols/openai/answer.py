"""What OpenAI's recording endpoints answer: JSON bodies and server-sent events, from a `RecordingTranscript`.

`logprobs` has one entry per word: Whisper's tokens are no longer at hand behind the recognisers, so a token
here is a word as written, with the logarithm of that word's probability. `tokens` of a segment is empty for
the same reason. `usage` counts seconds of audio; OpenAI's `transcript.text.done` knows tokens only, so that
event has none. Speakers are called `A`, `B` and so on; an empty name is that of somebody unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from serve_app.asr.jobs import Task, Word
from serve_app.asr.repetition import compression_ratio
from serve_app.errors import SottoError
from serve_app.models.languages import LANGUAGES
from serve_app.protocols.openai.errors import error_body
from serve_app.protocols.openai.request import ResponseFormat, TranscriptionRequest
from serve_app.protocols.spoken_words import spoken_form
from serve_app.service import RecordingSegment, RecordingTranscript
from serve_app.speakers.labels import openai_label

EVENT_STREAM_TYPE = "text/event-stream"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: nothing to say yet, but the stream is alive."""

MIN_LOGPROB = -20.0
"""For a probability of zero, whose logarithm JSON cannot say."""

Body: TypeAlias = dict[str, object]

_encoder = msgspec.json.Encoder()


def transcription_body(transcript: RecordingTranscript, request: TranscriptionRequest, task: Task) -> Body:
    """The `json`, `verbose_json` or `diarized_json` body."""
    if request.response_format is ResponseFormat.VERBOSE_JSON:
        return _verbose(transcript, request, task)
    if request.response_format is ResponseFormat.DIARIZED_JSON:
        return _diarized(transcript, task)
    body: Body = {"text": transcript.text.strip()}
    if request.wants_logprobs:
        body["logprobs"] = logprobs(_words(transcript))
    if task is Task.TRANSCRIBE:
        body["languages"] = languages(transcript.language)
        body["usage"] = usage(transcript.duration_s)
    return body


def _diarized(transcript: RecordingTranscript, task: Task) -> Body:
    return {
        "task": task.value,
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text.strip(),
        "segments": [_spoken_segment(index, part) for index, part in enumerate(transcript.segments)],
        "usage": usage(transcript.duration_s),
    }


def _spoken_segment(index: int, segment: RecordingSegment) -> Body:
    """A segment and its speaker, in the body and as an event alike."""
    return {
        "type": "transcript.text.segment",
        "id": _segment_id(index),
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        "text": segment.text.strip(),
        "speaker": _speaker(segment),
    }


def _segment_id(index: int) -> str:
    return f"seg_{index:03d}"


def _speaker(segment: RecordingSegment) -> str:
    return "" if segment.speaker is None else openai_label(segment.speaker)


def _verbose(transcript: RecordingTranscript, request: TranscriptionRequest, task: Task) -> Body:
    # OpenAI names the language of the text: that of a translation is English
    language = "en" if task is Task.TRANSLATE else transcript.language
    body: Body = {
        "task": task.value,
        "language": LANGUAGES.get(language, language).lower(),
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text.strip(),
    }
    if request.wants_segments:
        temperature = request.temperature or 0.0
        labelled = transcript.num_speakers is not None
        body["segments"] = [
            _segment(i, part, temperature) | ({"speaker": _speaker(part)} if labelled else {})
            for i, part in enumerate(transcript.segments)
        ]
    if request.wants_words:
        body["words"] = [
            {"word": spoken, "start": round(word.start_s, 3), "end": round(word.end_s, 3)}
            for word in _words(transcript)
            if (spoken := spoken_form(word.word))
        ]
    body["usage"] = usage(transcript.duration_s)
    return body


def _segment(index: int, segment: RecordingSegment, temperature: float) -> Body:
    return {
        "id": index,
        "seek": round(segment.start_s * 100),
        "start": round(segment.start_s, 3),
        "end": round(segment.end_s, 3),
        # with the space that Whisper writes before a segment, so that the texts joined are the text
        "text": f" {segment.text.strip()}",
        "tokens": [],
        "temperature": temperature,
        "avg_logprob": _finite(segment.avg_logprob),
        "compression_ratio": round(compression_ratio(segment.text.strip()), 4),
        "no_speech_prob": _finite(segment.no_speech_prob),
    }


class StreamedTranscript:
    """The events of one streamed answer; the deltas put together are the text of `transcript.text.done`."""

    def __init__(self, request: TranscriptionRequest) -> None:
        self._request = request
        self._num_segments = 0

    def segment(self, segment: RecordingSegment) -> bytes:
        """A delta; with `verbose_json` and `diarized_json` the segment with its times and speaker too."""
        text = segment.text.strip()
        delta: Body = {
            "type": "transcript.text.delta",
            "delta": text if self._num_segments == 0 else f" {text}",
        }
        if self._request.wants_logprobs:
            delta["logprobs"] = logprobs(segment.words)
        if self._request.response_format is ResponseFormat.DIARIZED_JSON:
            delta["segment_id"] = _segment_id(self._num_segments)
        frames = _event(delta)
        if self._request.response_format in (ResponseFormat.VERBOSE_JSON, ResponseFormat.DIARIZED_JSON):
            frames += _event(_spoken_segment(self._num_segments, segment))
        self._num_segments += 1
        return frames

    def done(self, transcript: RecordingTranscript) -> bytes:
        """The whole text, which goes last."""
        body: Body = {"type": "transcript.text.done", "text": transcript.text.strip()}
        if self._request.wants_logprobs:
            body["logprobs"] = logprobs(_words(transcript))
        return _event(body | {"languages": languages(transcript.language)})

    def failed(self, error: SottoError) -> bytes:
        """What goes last instead, once the status has been sent."""
        return _event(error_body(error) | {"type": "error"})


def logprobs(words: Iterable[Word]) -> list[Body]:
    """One entry per word: `token` with its leading space, its UTF-8 `bytes`, the natural `logprob`."""
    return [
        {
            "token": word.word,
            "bytes": list(word.word.encode()),
            "logprob": logprob(word.probability),
        }
        for word in words
    ]


def logprob(probability: float) -> float:
    if not probability > 0.0:
        return MIN_LOGPROB
    return round(max(MIN_LOGPROB, math.log(min(1.0, probability))), 4)


def languages(code: str) -> list[Body]:
    return [{"code": code}] if code else []


def usage(seconds: float) -> Body:
    return {"type": "duration", "seconds": round(seconds, 3)}


def _words(transcript: RecordingTranscript) -> Iterable[Word]:
    return (word for segment in transcript.segments for word in segment.words)


def _event(body: Body) -> bytes:
    return b"data: " + _encoder.encode(body) + b"\n\n"


def _finite(value: float) -> float:
    return round(value, 4) if math.isfinite(value) else 0.0
