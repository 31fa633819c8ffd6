"""What a client may choose for its live session, as read from the wire: one record for every door.

The native protocol carries it as `start_session.config`, the NDJSON door as query parameters. Every field
is optional; what is not given comes from the server's settings. Ranges are checked while decoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from serve_app.asr.jobs import Task
from serve_app.audio.conditioning import ConditioningOptions
from serve_app.audio.rates import MAX_RATE_HZ, MIN_RATE_HZ
from serve_app.errors import InvalidMessage
from serve_app.models.languages import normalise_language, normalise_languages
from serve_app.protocols.speaker_choices import DiarizationBackend, chosen_counts, chosen_mode
from serve_app.session.options import LANGUAGE_LOCK_S, EndpointingOptions, SessionOptions
from serve_app.speakers.turns import MAX_SPEAKERS, SpeakerBackend
from serve_app.streaming.policy import POLICY_SPELLINGS, PolicyName, PolicyOptions

if TYPE_CHECKING:
    from serve_app.audio.pcm import Encoding

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

MAX_ERROR_CHARS = 300
MAX_CHANNELS = 8
MAX_PROMPT_CHARS = 4_000
MAX_HOTWORD_CHARS = 1_000

SessionId: TypeAlias = Annotated[
    str,
    Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$", description="no control characters"),
]
Probability: TypeAlias = Annotated[float, Meta(ge=0.0, le=1.0)]
SampleRateHz: TypeAlias = Annotated[float, Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ, multiple_of=1)]
"""A whole number, which may be written as 44100.0."""
LanguageName: TypeAlias = Annotated[str, Meta(max_length=64)]
MAX_LANGUAGES = 16
LanguageNames: TypeAlias = (
    Annotated[str, Meta(max_length=512)] | Annotated[tuple[LanguageName, ...], Meta(max_length=MAX_LANGUAGES)]
)
"""Several languages: a list, or one string with commas between them."""

EncodingName: TypeAlias = Literal[
    "pcm16", "pcm_s16le", "s16le", "linear16",
    "float32", "pcm_f32le", "f32le",
    "mulaw", "ulaw", "pcmu",
    "alaw", "pcma",
]  # fmt: skip

PolicyAlias: TypeAlias = Literal[
    "dual", "local_agreement", "localagreement", "align_att", "alignatt", "simulstreaming"
]

NumSpeakers: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SPEAKERS)]
NumChannels: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_CHANNELS)]

PCM_ENCODINGS: dict[str, Encoding] = {
    "pcm16": "pcm16",
    "pcm_s16le": "pcm16",
    "s16le": "pcm16",
    "linear16": "pcm16",
    "float32": "float32",
    "pcm_f32le": "float32",
    "f32le": "float32",
    "mulaw": "mulaw",
    "ulaw": "mulaw",
    "pcmu": "mulaw",
    "alaw": "alaw",
    "pcma": "alaw",
}
"""Every accepted spelling of a raw encoding, to the name that `audio.pcm` knows."""


class SessionChoices(msgspec.Struct, frozen=True, kw_only=True):
    """The optional choices of one live session under their wire names."""

    lang_code: LanguageName | None = None
    language: LanguageName | None = None
    languages: LanguageNames | None = None
    sample_rate: SampleRateHz | None = None
    encoding: EncodingName | None = None
    channels: NumChannels | None = None
    vad_enabled: bool | None = None
    vad_threshold: Probability | None = None
    partial_results: bool | None = None
    word_timestamps: bool | None = None
    task: Task | None = None
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT_CHARS)] | None = None
    hotwords: Annotated[str, Meta(max_length=MAX_HOTWORD_CHARS)] | None = None
    carry_context: bool | None = None
    language_mode: Literal["lock", "utterance"] | None = None
    language_lock_s: Annotated[float, Meta(gt=0.0, le=600.0)] | None = None
    streaming_policy: PolicyAlias | None = None
    auto_gain: bool | None = None
    high_pass: bool | None = None
    level_warnings: bool | None = None
    withhold_doubted: bool | None = None
    diarization: bool | None = None
    diarize: bool | None = None
    diarization_backend: DiarizationBackend | None = None
    num_speakers: NumSpeakers | None = None
    min_speakers: NumSpeakers | None = None
    max_speakers: NumSpeakers | None = None
    smart_format: bool | None = None
    numerals: bool | None = None
    min_chunk_ms: Annotated[int, Meta(ge=10, le=30_000)] | None = None
    buffer_trimming: Literal["segment", "sentence"] | None = None
    buffer_trimming_s: Annotated[float, Meta(gt=0.0, le=30.0)] | None = None
    frame_threshold: Annotated[int, Meta(ge=1, le=500)] | None = None
    min_speech_ms: Annotated[int, Meta(ge=0, le=5_000)] | None = None
    min_silence_ms: Annotated[int, Meta(ge=50, le=10_000)] | None = None
    pre_roll_ms: Annotated[int, Meta(ge=0, le=2_000)] | None = None
    speech_pad_ms: Annotated[int, Meta(ge=0, le=2_000)] | None = None
    overlap_ms: Annotated[int, Meta(ge=0, le=2_000)] | None = None
    max_utterance_ms: Annotated[int, Meta(ge=1_000, le=30_000)] | None = None
    partial_interval_ms: Annotated[int, Meta(ge=50, le=10_000)] | None = None
    max_partial_window_ms: Annotated[int, Meta(ge=1_000, le=30_000)] | None = None
    idle_final_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None

    @property
    def pcm_encoding(self) -> Encoding:
        """The raw encoding of binary frames; 16-bit little-endian unless chosen otherwise."""
        return PCM_ENCODINGS[self.encoding or "pcm16"]

    @property
    def sample_rate_hz(self) -> int:
        return int(self.sample_rate or 16_000)

    @property
    def num_channels(self) -> int:
        return self.channels or 1

    @property
    def wants_speakers(self) -> bool | None:
        """None: as the server likes. Raises `InvalidMessage` where the two names of it disagree."""
        given = {value for value in (self.diarization, self.diarize) if value is not None}
        if len(given) > 1:
            raise InvalidMessage("diarization and diarize disagree")
        return given.pop() if given else None

    def session_options(
        self, session_id: str, defaults: SessionOptions, backend: SpeakerBackend = "pyannote"
    ) -> SessionOptions:
        """The server's defaults with these choices laid over them; `backend`: what tells its speakers apart.

        Raises `UnsupportedLanguage`, `SpeakersUnavailable`, and `InvalidMessage` where two of them disagree.
        """
        chosen: dict[str, Any] = {
            "task": self.task,
            "partials": self.partial_results,
            "partial_interval_ms": self.partial_interval_ms,
            "max_partial_window_ms": self.max_partial_window_ms,
            "word_timestamps": self.word_timestamps,
            "prompt": self.prompt,
            "hotwords": self.hotwords,
            "carry_context": self.carry_context,
            "level_warnings": self.level_warnings,
            "withhold_doubted": self.withhold_doubted,
        }
        language, languages = chosen_languages(
            self._language(), self.languages, defaults.language, defaults.languages
        )
        return replace(
            defaults,
            session_id=session_id,
            language=language,
            languages=languages,
            language_lock_s=self._language_lock_s(defaults.language_lock_s),
            policy=self._policy(defaults.policy),
            conditioning=self._conditioning(defaults.conditioning),
            formatting=defaults.formatting.chosen(smart_format=self.smart_format, numerals=self.numerals),
            speakers=chosen_mode(self.wants_speakers, self, defaults.speakers, backend),
            speaker_counts=chosen_counts(self, defaults.speaker_counts),
            endpointing=self._endpointing(defaults.endpointing),
            **{name: value for name, value in chosen.items() if value is not None},
        )

    def _language(self) -> str | None:
        """The one that was named, under either of its names."""
        given = [name for name in (self.lang_code, self.language) if name]
        if len({normalise_language(name) for name in given}) > 1:
            raise InvalidMessage("lang_code and language name two different languages")
        return given[0] if given else None

    def _language_lock_s(self, default: float | None) -> float | None:
        """None: every utterance in a language of its own."""
        if self.language_mode == "utterance":
            return None
        if self.language_mode == "lock" and default is None:
            default = LANGUAGE_LOCK_S
        return default if self.language_lock_s is None else self.language_lock_s

    def _policy(self, defaults: PolicyOptions) -> PolicyOptions:
        name = self.streaming_policy
        chosen: dict[str, Any] = {
            "name": None if name is None else POLICY_SPELLINGS.get(name) or PolicyName(name),
            "min_chunk_ms": self.min_chunk_ms,
            "trimming": self.buffer_trimming,
            "trimming_s": self.buffer_trimming_s,
            "attention": None
            if self.frame_threshold is None
            else replace(defaults.attention, frame_threshold=self.frame_threshold),
        }
        return replace(defaults, **{name: value for name, value in chosen.items() if value is not None})

    def _conditioning(self, defaults: ConditioningOptions) -> ConditioningOptions:
        chosen: dict[str, Any] = {"auto_gain": self.auto_gain, "high_pass": self.high_pass}
        if self.auto_gain:
            chosen["gain_db"] = 0.0
        return replace(defaults, **{name: value for name, value in chosen.items() if value is not None})

    def _endpointing(self, defaults: EndpointingOptions) -> EndpointingOptions:
        chosen: dict[str, Any] = {
            "enabled": self.vad_enabled,
            "threshold": self.vad_threshold,
            "min_speech_ms": self.min_speech_ms,
            "min_silence_ms": self.min_silence_ms,
            "pre_roll_ms": self.pre_roll_ms,
            "speech_pad_ms": self.speech_pad_ms,
            "overlap_ms": self.overlap_ms,
            "max_utterance_ms": self.max_utterance_ms,
        }
        return replace(defaults, **{name: value for name, value in chosen.items() if value is not None})


def chosen_languages(
    language: str | None,
    languages: str | Iterable[str] | None,
    default: str | None = None,
    defaults: tuple[str, ...] = (),
) -> tuple[str | None, tuple[str, ...]]:
    """The language to decode in, None to detect it, and the only ones that it may be, empty for any.

    What is not given is the server's, `default` and `defaults`; a language of one's own sets aside the
    server's list, a list of one's own the server's language. Raises `UnsupportedLanguage`, and
    `InvalidMessage` for a language that is not on the list that came with it.
    """
    code = normalise_language(language)
    if languages is None:
        return (code, () if code else defaults) if language else (default, () if default else defaults)
    among = normalise_languages(languages)
    if code is not None and among and code not in among:
        raise InvalidMessage(f"language {code!r} is not one of languages {', '.join(among)}")
    if len(among) > MAX_LANGUAGES:
        raise InvalidMessage(f"languages: {len(among)} given, the limit is {MAX_LANGUAGES}")
    if code is not None or len(among) == 1:
        return code or among[0], ()
    return None, among


def message_of(error: Exception) -> str:
    """The decoder's complaint, short enough to send back."""
    text = str(error).replace("`", "'")
    return text if len(text) <= MAX_ERROR_CHARS else text[:MAX_ERROR_CHARS] + "..."


Parameters: TypeAlias = Iterable[tuple[str, str]]
"""Query parameters or form fields, in order."""


class _SessionQuery(SessionChoices, frozen=True, kw_only=True):
    session_id: SessionId | None = None
    vad_filter: bool | None = None


def choices_from_query(parameters: Parameters) -> tuple[str | None, SessionChoices]:
    """Session id (None: the server makes one) and choices from a URL's query parameters.

    `vad_filter` is `vad_enabled` under its upload name; unknown and empty parameters are ignored.
    Raises `InvalidMessage` naming the parameter.
    """
    query = convert_parameters(parameters, _SessionQuery)
    vad_enabled = query.vad_enabled if query.vad_enabled is not None else query.vad_filter
    fields = {name: getattr(query, name) for name in SessionChoices.__struct_fields__}
    return query.session_id, SessionChoices(**{**fields, "vad_enabled": vad_enabled})


def convert_parameters(parameters: Parameters, record: type[RecordT]) -> RecordT:
    """Text parameters to a typed record; unknown and empty ones are ignored.

    Raises `InvalidMessage` on a value out of range, or one parameter given with two values.
    """
    given: dict[str, str] = {}
    for name, value in parameters:
        if value and given.setdefault(name, value) != value:
            raise InvalidMessage(f"parameter {name[:64]!r} is given twice with different values")
    try:
        return msgspec.convert(given, record, strict=False)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise InvalidMessage(message_of(error)) from None
