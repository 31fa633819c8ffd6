"""What a client may choose for one session; the defaults come from `Settings`."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Task
from serve_app.audio.conditioning import ConditioningOptions
from serve_app.formatting import FormattingOptions
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode
from serve_app.streaming.policy import PolicyOptions

LANGUAGE_LOCK_S = 4.0


def ms_to_samples(ms: float) -> int:
    return round(ms * SAMPLE_RATE_HZ / 1000)


@dataclass(frozen=True, slots=True)
class EndpointingOptions:
    """When an utterance begins and ends, in milliseconds of audio; thresholds are speech probabilities.

    An utterance opens with the first window at or over `threshold`, counts as speech once it holds
    `min_speech_ms` of voiced audio, and closes after `min_silence_ms` under `threshold - 0.15`. The cut
    keeps `pre_roll_ms` before and `speech_pad_ms` after. Longer ones are cut at `max_utterance_ms`, with
    `overlap_ms` of audio decoded on both sides of the cut.
    """

    enabled: bool = True
    threshold: float = 0.5
    min_speech_ms: int = 250
    min_silence_ms: int = 500
    pre_roll_ms: int = 200
    speech_pad_ms: int = 200
    overlap_ms: int = 200
    max_utterance_ms: int = 30_000


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """One session's choices.

    `language` None means: detect, of `languages` alone where there are any; then lock after `language_lock_s`
    of speech, or, where that is None, detect every utterance anew. `withhold_doubted`: text that a guard does
    not believe is not sent, only that it was withheld. `prompt` is text to expect before the first utterance,
    `hotwords` words to expect in all of them; `carry_context`: each utterance is decoded with the text before
    it in view. `conditioning` is done to the sound, `formatting` to the text of finals. `speakers`: whether
    finals and words say who spoke them, `speaker_counts` how many there may be.
    """

    session_id: str
    language: str | None = None
    languages: tuple[str, ...] = ()
    language_lock_s: float | None = LANGUAGE_LOCK_S
    task: Task = Task.TRANSCRIBE
    partials: bool = True
    partial_interval_ms: int = 300
    max_partial_window_ms: int = 8_000
    word_timestamps: bool = True
    prompt: str = ""
    hotwords: str = ""
    carry_context: bool = False
    policy: PolicyOptions = PolicyOptions()
    conditioning: ConditioningOptions = ConditioningOptions()
    formatting: FormattingOptions = FormattingOptions()
    level_warnings: bool = False
    withhold_doubted: bool = False
    speakers: SpeakerMode = SpeakerMode.OFF
    speaker_counts: SpeakerCounts = SpeakerCounts()
    endpointing: EndpointingOptions = EndpointingOptions()
