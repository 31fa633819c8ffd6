"""The body of `POST /transcribe`: one finished recording as one JSON object.

In this door `segments[].confidence` is the mean log-probability and the top-level `confidence` the
probability of the language, as its callers know them; `avg_logprob` says the former by its name. What is
said of speakers is there only where they were asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from serve_app.asr.jobs import Task
from serve_app.protocols.choices import (
    MAX_HOTWORD_CHARS,
    MAX_PROMPT_CHARS,
    LanguageName,
    LanguageNames,
    NumSpeakers,
    Parameters,
    chosen_languages,
    convert_parameters,
)
from serve_app.protocols.native import words_message
from serve_app.protocols.speaker_choices import DiarizationBackend, with_speakers
from serve_app.service import RecordingOptions, RecordingSegment, RecordingTranscript
from serve_app.speakers.labels import known_label, speaker_label
from serve_app.speakers.turns import SpeakerBackend

MAX_AUDIO_TRACK = 255


class ResponseFormat(StrEnum):
    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VTT = "vtt"


class UploadChoices(msgspec.Struct, frozen=True, kw_only=True):
    """The optional choices of one upload, as query parameters or form fields."""

    language: LanguageName | None = None
    languages: LanguageNames | None = None
    response_format: ResponseFormat = ResponseFormat.JSON
    word_timestamps: bool = False
    vad_filter: bool | None = None
    task: Task | None = None
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT_CHARS)] | None = None
    hotwords: Annotated[str, Meta(max_length=MAX_HOTWORD_CHARS)] | None = None
    beam_size: Annotated[int, Meta(ge=1, le=20)] | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    normalise: bool | None = None
    withhold_doubted: bool | None = None
    smart_format: bool | None = None
    diarize: bool | None = None
    num_speakers: NumSpeakers | None = None
    min_speakers: NumSpeakers | None = None
    max_speakers: NumSpeakers | None = None
    diarization_backend: DiarizationBackend | None = None
    audio_track: Annotated[int, Meta(ge=0, le=MAX_AUDIO_TRACK)] | None = None

    def recording_options(
        self, defaults: RecordingOptions, backend: SpeakerBackend = "pyannote"
    ) -> RecordingOptions:
        """The server's defaults with these choices laid over them; `backend`: what tells its speakers apart.

        Subtitles ask for word times whether or not the client did. Raises `UnsupportedLanguage`,
        `SpeakersUnavailable`, and `InvalidMessage` where the numbers of speakers disagree.
        """
        subtitles = self.response_format in (ResponseFormat.SRT, ResponseFormat.VTT)
        language, languages = chosen_languages(
            self.language, self.languages, defaults.language, defaults.languages
        )
        withhold = self.withhold_doubted
        options = replace(
            defaults,
            language=language,
            languages=languages,
            withhold_doubted=defaults.withhold_doubted if withhold is None else withhold,
            task=self.task or defaults.task,
            word_timestamps=self.word_timestamps or subtitles,
            vad_filter=defaults.vad_filter if self.vad_filter is None else self.vad_filter,
            prompt=defaults.prompt if self.prompt is None else self.prompt,
            hotwords=defaults.hotwords if self.hotwords is None else self.hotwords,
            beam_size=self.beam_size or defaults.beam_size,
            normalise=defaults.normalise if self.normalise is None else self.normalise,
            formatting=defaults.formatting.chosen(smart_format=self.smart_format),
            temperature=defaults.temperature if self.temperature is None else self.temperature,
        )
        return with_speakers(options, self.diarize, self, backend)


def upload_choices(parameters: Parameters) -> UploadChoices:
    """Raises `InvalidMessage` naming the parameter that cannot be understood."""
    return convert_parameters(parameters, UploadChoices)


@dataclass(frozen=True, slots=True)
class ProcessingTime:
    """Seconds that one upload took: decoding of the file, recognition, and both with what lay between."""

    preprocess_s: float
    transcribe_s: float
    total_s: float


def transcript_body(
    transcript: RecordingTranscript,
    time: ProcessingTime,
    timestamp: datetime,
    *,
    include_words: bool = False,
    warning: str | None = None,
    complete: bool = True,
) -> dict[str, object]:
    """The answer, with `words` and speakers when asked for and `warning` where something is wrong with the
    file; beside it `complete`, False where some of the audio is missing."""
    duration_s = transcript.duration_s
    labelled = transcript.num_speakers is not None
    body: dict[str, object] = {
        "transcript": transcript.text.strip(),
        "confidence": _rounded(transcript.language_probability),
        "language": transcript.language,
        "language_probability": _rounded(transcript.language_probability),
        "duration": round(duration_s, 2),
        "segments": [
            _segment(index, part, labelled) for index, part in enumerate(transcript.segments, start=1)
        ],
        "processing_time": {
            "preprocess_ms": round(time.preprocess_s * 1000, 1),
            "transcribe_ms": round(time.transcribe_s * 1000, 1),
            "total_ms": round(time.total_s * 1000, 1),
        },
        "real_time_factor": round(time.transcribe_s / duration_s, 3) if duration_s > 0 else 0.0,
        "model": transcript.model,
        "timestamp": timestamp.isoformat(),
        "cached": False,
    }
    if include_words:
        words = tuple(word for part in transcript.segments for word in part.words)
        body["words"] = words_message(words, speakers=labelled)
    if transcript.num_speakers is not None:
        body["num_speakers"] = transcript.num_speakers
        body["speakers"] = [speaker_label(speaker) for speaker in range(transcript.num_speakers)]
    if warning:
        body["warning"] = warning
        body["complete"] = complete
    if transcript.num_withheld:
        body["withheld_segments"] = transcript.num_withheld
    return body


def _segment(segment_id: int, segment: RecordingSegment, labelled: bool) -> dict[str, object]:
    """With `labelled` and its speaker, null where it is not known."""
    record: dict[str, object] = {
        "id": segment_id,
        "start": round(segment.start_s, 2),
        "end": round(segment.end_s, 2),
        "text": segment.text.strip(),
        "confidence": _rounded(segment.avg_logprob),
        "avg_logprob": _rounded(segment.avg_logprob),
    }
    if labelled:
        record["speaker"] = known_label(segment.speaker)
    if segment.doubted:
        record["doubted"] = segment.doubted
    return record


def _rounded(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
