"""What a client may choose for one session or one recording: each option's bounds and meaning.

The types of options are read by the records of every door, by the settings that hold their defaults, and by
the documents. Options of endpointing, of streaming policies and of speakers stand beside their records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from serve_app.audio.conditioning import ConditioningOptions
from serve_app.core.jobs import Task
from serve_app.formatting import FormattingOptions
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode
from serve_app.streaming.policy import PolicyOptions
from serve_app.vad.options import EndpointingOptions

LANGUAGE_LOCK_S = 4.0
MAX_LANGUAGES = 16
MAX_LANGUAGE_CHARS = 64
MAX_PROMPT_CHARS = 4_000
MAX_HOTWORD_CHARS = 10_000
"""As many terms as are lifted, of 20 characters."""

Language: TypeAlias = Annotated[
    str,
    Meta(
        max_length=MAX_LANGUAGE_CHARS,
        description="Language of the speech: a code, `pt-BR`, a name, or `auto`.",
    ),
]
TaskName: TypeAlias = Annotated[
    Task, Meta(description="Write as spoken (`transcribe`), or in English (`translate`).")
]
LanguageMode: TypeAlias = Annotated[
    Literal["lock", "utterance"],
    Meta(description="Detect the language once (`lock`), or for every `utterance` anew."),
]
LanguageLockS: TypeAlias = Annotated[
    float,
    Meta(
        gt=0.0,
        le=600.0,
        description="Seconds of speech in one language, weighted by probability, after which it is locked.",
    ),
]
Prompt: TypeAlias = Annotated[
    str,
    Meta(
        max_length=MAX_PROMPT_CHARS,
        description="Text to expect before the first utterance: names and spellings.",
    ),
]
Hotwords: TypeAlias = Annotated[
    str,
    Meta(
        max_length=MAX_HOTWORD_CHARS,
        description="Words to expect in every utterance, separated by commas; `word:2` with a boost up to 3.",
    ),
]
CarryContext: TypeAlias = Annotated[
    bool, Meta(description="Decode each utterance with the text before it in view.")
]
WordTimestamps: TypeAlias = Annotated[bool, Meta(description="Times and probabilities of words in finals.")]
WithholdDoubted: TypeAlias = Annotated[
    bool, Meta(description="Keep text back that is doubted though speech was heard, and say so.")
]
PartialResults: TypeAlias = Annotated[bool, Meta(description="Send interim text.")]
MIN_INTERVAL_MS, MAX_INTERVAL_MS = 50, 60_000
PartialIntervalMs: TypeAlias = Annotated[
    int,
    Meta(ge=MIN_INTERVAL_MS, le=MAX_INTERVAL_MS, description="Least time between two interims of a session."),
]
MaxPartialWindowMs: TypeAlias = Annotated[
    int, Meta(ge=1_000, le=30_000, description="Newest audio that an interim decodes.")
]
IdleFinalMs: TypeAlias = Annotated[
    int,
    Meta(
        ge=0,
        le=60_000,
        description="Time without any audio after which what was said becomes a final; 0: never.",
    ),
]
VadFilter: TypeAlias = Annotated[bool, Meta(description="Leave silence out before decoding.")]
AutoGain: TypeAlias = Annotated[bool, Meta(description="Bring speech to an even level.")]
HighPass: TypeAlias = Annotated[bool, Meta(description="Take rumble out of the sound.")]
Normalise: TypeAlias = Annotated[
    bool, Meta(description="Bring the recording's peak to -1 dBFS before it is decoded.")
]
LevelWarnings: TypeAlias = Annotated[
    bool, Meta(description="Tell when the sound clips, is dead silent, too quiet or off centre.")
]
SpeechProbability: TypeAlias = Annotated[
    bool, Meta(description="Tell the voice detector's probability of speech as it hears the audio.")
]
SmartFormat: TypeAlias = Annotated[bool, Meta(description="Write capitals, spacing and numbers.")]
BeamSize: TypeAlias = Annotated[int, Meta(ge=1, le=20, description="Beams of the search; 1 is greedy.")]
Temperature: TypeAlias = Annotated[
    float, Meta(ge=0.0, le=1.0, description="Randomness of the search; 0 is none.")
]


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
    language_lock_s: LanguageLockS | None = LANGUAGE_LOCK_S
    task: Task = Task.TRANSCRIBE
    partials: PartialResults = True
    partial_interval_ms: PartialIntervalMs = 300
    max_partial_window_ms: MaxPartialWindowMs = 8_000
    word_timestamps: WordTimestamps = True
    prompt: Prompt = ""
    hotwords: Hotwords = ""
    carry_context: CarryContext = False
    policy: PolicyOptions = PolicyOptions()
    conditioning: ConditioningOptions = ConditioningOptions()
    formatting: FormattingOptions = FormattingOptions()
    level_warnings: LevelWarnings = False
    speech_probability: SpeechProbability = False
    withhold_doubted: WithholdDoubted = False
    speakers: SpeakerMode = SpeakerMode.OFF
    speaker_counts: SpeakerCounts = SpeakerCounts()
    endpointing: EndpointingOptions = EndpointingOptions()
