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
from msgspec import UNSET, Meta

from serve_app.protocols.choices import (
    LanguageNames,
    Parameters,
    chosen_languages,
    convert_parameters,
    laid_over,
)
from serve_app.protocols.native.messages import wire_words
from serve_app.protocols.speaker_choices import DiarizationBackend, Diarize, with_speakers
from serve_app.service.contract import RecordingOptions, RecordingSegment, RecordingTranscript
from serve_app.session.options import (
    BeamSize,
    Hotwords,
    Language,
    Normalise,
    Prompt,
    SmartFormat,
    TaskName,
    Temperature,
    VadFilter,
    WithholdDoubted,
)
from serve_app.speakers.turns import (
    MaxSpeakers,
    MinSpeakers,
    NumSpeakers,
    SpeakerBackend,
    known_label,
    speaker_label,
)
from sotto_client import wire

MAX_AUDIO_TRACK = 255


class ResponseFormat(StrEnum):
    JSON = "json"
    VERBOSE_JSON = "verbose_json"
    TEXT = "text"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"
    NDJSON = "ndjson"


class UploadChoices(msgspec.Struct, frozen=True, kw_only=True):
    """The optional choices of one upload, as query parameters or form fields."""

    language: Language | None = None
    languages: Annotated[
        LanguageNames | None,
        Meta(description="The only languages that may be detected, commas between them."),
    ] = None
    response_format: Annotated[
        ResponseFormat,
        Meta(
            description="`json`, `verbose_json` (with words), `text`, `srt`, `vtt`, `tsv` (times in "
            "milliseconds) or `ndjson` (a segment a line; of recordings over a minute each is sent when it "
            "is known, with a last line `warning` and `complete`, or `detail`, where something went wrong; "
            "server-sent events where `Accept` names `text/event-stream`)."
        ),
    ] = ResponseFormat.JSON
    word_timestamps: Annotated[bool, Meta(description="Add `words` with their times to the JSON.")] = False
    vad_filter: VadFilter | None = None
    task: TaskName | None = None
    prompt: Prompt | None = None
    hotwords: Hotwords | None = None
    beam_size: BeamSize | None = None
    temperature: Temperature | None = None
    normalise: Normalise | None = None
    withhold_doubted: WithholdDoubted | None = None
    smart_format: SmartFormat | None = None
    diarize: Diarize | None = None
    num_speakers: NumSpeakers | None = None
    min_speakers: MinSpeakers | None = None
    max_speakers: MaxSpeakers | None = None
    diarization_backend: DiarizationBackend | None = None
    audio_track: (
        Annotated[
            int,
            Meta(
                ge=0,
                le=MAX_AUDIO_TRACK,
                description="Which of several audio tracks, from 0; else the default one.",
            ),
        ]
        | None
    ) = None

    def recording_options(
        self, defaults: RecordingOptions, backend: SpeakerBackend = "pyannote"
    ) -> RecordingOptions:
        """The server's defaults with these choices laid over them; `backend`: what tells its speakers apart.

        Subtitles ask for word times whether or not the client did. Raises `UnsupportedLanguage`,
        `SpeakersUnavailable`, and `InvalidMessage` where the numbers of speakers disagree.
        """
        subtitles = self.response_format in (ResponseFormat.SRT, ResponseFormat.VTT)
        words = self.word_timestamps or self.response_format is ResponseFormat.VERBOSE_JSON
        language, languages = chosen_languages(
            self.language, self.languages, defaults.language, defaults.languages
        )
        options = replace(
            laid_over(
                defaults,
                task=self.task,
                vad_filter=self.vad_filter,
                prompt=self.prompt,
                hotwords=self.hotwords,
                beam_size=self.beam_size,
                normalise=self.normalise,
                withhold_doubted=self.withhold_doubted,
                temperature=self.temperature,
            ),
            language=language,
            languages=languages,
            word_timestamps=words or subtitles,
            formatting=defaults.formatting.chosen(smart_format=self.smart_format),
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
    cached_at: datetime | None = None,
    hit_at: datetime | None = None,
) -> wire.Transcript:
    """The answer, with `words` and speakers when asked for and `warning` where something is wrong with the
    file; beside it `complete`, False where some of the audio is missing. `cached_at`, `hit_at`: when the text
    was cached and found there."""
    duration_s, num_speakers = transcript.duration_s, transcript.num_speakers
    labelled = num_speakers is not None
    words = tuple(word for part in transcript.segments for word in part.words) if include_words else ()
    return wire.Transcript(
        transcript=transcript.text.strip(),
        confidence=_rounded(transcript.language_probability),
        language=transcript.language,
        language_probability=_rounded(transcript.language_probability),
        duration_s=round(duration_s, 2),
        segments=wire_segments(transcript),
        processing_time=wire.ProcessingTime(
            preprocess_ms=round(time.preprocess_s * 1000, 1),
            transcribe_ms=round(time.transcribe_s * 1000, 1),
            total_ms=round(time.total_s * 1000, 1),
        ),
        real_time_factor=round(time.transcribe_s / duration_s, 3) if duration_s > 0 else 0.0,
        model=transcript.model,
        timestamp=timestamp.isoformat(),
        cached=hit_at is not None,
        cached_at=UNSET if cached_at is None else cached_at.isoformat(),
        cache_hit_at=UNSET if hit_at is None else hit_at.isoformat(),
        words=wire_words(words, speakers=labelled) if include_words else UNSET,
        num_speakers=UNSET if num_speakers is None else num_speakers,
        speakers=UNSET if num_speakers is None else tuple(map(speaker_label, range(num_speakers))),
        warning=warning or UNSET,
        complete=complete if warning else UNSET,
        withheld_segments=transcript.num_withheld or UNSET,
    )


def wire_segments(transcript: RecordingTranscript) -> tuple[wire.Segment, ...]:
    labelled = transcript.num_speakers is not None
    return tuple(
        wire_segment(index, part, labelled=labelled)
        for index, part in enumerate(transcript.segments, start=1)
    )


def wire_segment(segment_id: int, segment: RecordingSegment, *, labelled: bool = False) -> wire.Segment:
    """With `labelled` and its speaker, null where it is not known."""
    return wire.Segment(
        id=segment_id,
        start_s=round(segment.start_s, 2),
        end_s=round(segment.end_s, 2),
        text=segment.text.strip(),
        confidence=_rounded(segment.avg_logprob),
        avg_logprob=_rounded(segment.avg_logprob),
        speaker=known_label(segment.speaker) if labelled else UNSET,
        doubted=segment.doubted or UNSET,
    )


def _rounded(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
