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

from serve_app.audio.pcm import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from serve_app.core.errors import InvalidMessage
from serve_app.core.jobs import FrameThreshold
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.models.languages import normalise_language, normalise_languages
from serve_app.protocols.speaker_choices import DiarizationBackend, chosen_counts, chosen_mode
from serve_app.session.options import (
    LANGUAGE_LOCK_S,
    MAX_LANGUAGE_CHARS,
    MAX_LANGUAGES,
    AutoGain,
    CarryContext,
    HighPass,
    Hotwords,
    IdleFinalMs,
    Language,
    LanguageLockS,
    LanguageMode,
    LevelWarnings,
    MaxPartialWindowMs,
    PartialIntervalMs,
    PartialResults,
    Prompt,
    SessionOptions,
    SmartFormat,
    SpeechProbability,
    TaskName,
    WithholdDoubted,
    WordTimestamps,
)
from serve_app.speakers.turns import MaxSpeakers, MinSpeakers, NumSpeakers, SpeakerBackend
from serve_app.streaming.policy import (
    POLICY_SPELLINGS,
    MinChunkMs,
    PolicyName,
    PolicySpelling,
    Trimming,
    TrimmingS,
)
from serve_app.vad.options import (
    MaxUtteranceMs,
    MinSilenceMs,
    MinSpeechMs,
    OverlapMs,
    PreRollMs,
    SpeechPadMs,
    VadEnabled,
    VadThreshold,
)
from sotto_client.audio import PCM_ENCODINGS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from serve_app.audio.pcm import Encoding

RecordT = TypeVar("RecordT", bound=msgspec.Struct)
MessageT = TypeVar("MessageT")
OptionsT = TypeVar("OptionsT", bound="DataclassInstance")

MAX_ERROR_CHARS = 300

SessionId: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="An id of your own, unique among open sessions; else the server makes one.",
    ),
]
SampleRateHz: TypeAlias = Annotated[float, Meta(ge=MIN_RATE_HZ, le=MAX_RATE_HZ, multiple_of=1)]
"""A whole number, which may be written as 44100.0."""
LanguageName: TypeAlias = Annotated[str, Meta(max_length=MAX_LANGUAGE_CHARS)]
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

NumChannels: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_CHANNELS)]


class SessionChoices(msgspec.Struct, frozen=True, kw_only=True):
    """The optional choices of one live session under their wire names."""

    lang_code: Language | None = None
    language: Annotated[LanguageName, Meta(description="The same under its other name.")] | None = None
    languages: Annotated[
        LanguageNames | None,
        Meta(description="The only languages that may be detected: a list, or commas between them."),
    ] = None
    sample_rate: Annotated[
        SampleRateHz | None, Meta(description="Samples a second of raw audio, 16000 unless given.")
    ] = None
    encoding: Annotated[
        EncodingName | None,
        Meta(
            description="Raw samples: `pcm16` (default), `float32`, `mulaw` or `alaw`, or other names of "
            "these."
        ),
    ] = None
    channels: Annotated[
        NumChannels | None,
        Meta(
            description="Interleaved channels of raw audio, 1 unless given; mixed, unless each is a speaker."
        ),
    ] = None
    vad_enabled: VadEnabled | None = None
    vad_threshold: VadThreshold | None = None
    partial_results: PartialResults | None = None
    word_timestamps: WordTimestamps | None = None
    task: TaskName | None = None
    prompt: Prompt | None = None
    hotwords: Hotwords | None = None
    carry_context: CarryContext | None = None
    language_mode: LanguageMode | None = None
    language_lock_s: LanguageLockS | None = None
    streaming_policy: PolicySpelling | None = None
    auto_gain: AutoGain | None = None
    high_pass: HighPass | None = None
    level_warnings: LevelWarnings | None = None
    speech_probability: SpeechProbability | None = None
    withhold_doubted: WithholdDoubted | None = None
    diarization: Annotated[bool, Meta(description="Tell speakers apart.")] | None = None
    diarize: Annotated[bool, Meta(description="The same under its other name.")] | None = None
    diarization_backend: DiarizationBackend | None = None
    num_speakers: NumSpeakers | None = None
    min_speakers: MinSpeakers | None = None
    max_speakers: MaxSpeakers | None = None
    smart_format: SmartFormat | None = None
    numerals: Annotated[
        bool | None, Meta(description="Write spoken numbers as digits; wins over `smart_format`.")
    ] = None
    min_chunk_ms: MinChunkMs | None = None
    buffer_trimming: Trimming | None = None
    buffer_trimming_s: TrimmingS | None = None
    frame_threshold: FrameThreshold | None = None
    min_speech_ms: MinSpeechMs | None = None
    min_silence_ms: MinSilenceMs | None = None
    pre_roll_ms: PreRollMs | None = None
    speech_pad_ms: SpeechPadMs | None = None
    overlap_ms: OverlapMs | None = None
    max_utterance_ms: MaxUtteranceMs | None = None
    partial_interval_ms: PartialIntervalMs | None = None
    max_partial_window_ms: MaxPartialWindowMs | None = None
    idle_final_ms: IdleFinalMs | None = None

    @property
    def pcm_encoding(self) -> Encoding:
        """The raw encoding of binary frames; 16-bit little-endian unless chosen otherwise."""
        return PCM_ENCODINGS[self.encoding or "pcm16"]

    @property
    def sample_rate_hz(self) -> int:
        return int(self.sample_rate or SAMPLE_RATE_HZ)

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
        language, languages = chosen_languages(
            self._language(), self.languages, defaults.language, defaults.languages
        )
        name = self.streaming_policy
        return replace(
            laid_over(
                defaults,
                task=self.task,
                partials=self.partial_results,
                partial_interval_ms=self.partial_interval_ms,
                max_partial_window_ms=self.max_partial_window_ms,
                word_timestamps=self.word_timestamps,
                prompt=self.prompt,
                hotwords=self.hotwords,
                carry_context=self.carry_context,
                level_warnings=self.level_warnings,
                speech_probability=self.speech_probability,
                withhold_doubted=self.withhold_doubted,
            ),
            session_id=session_id,
            language=language,
            languages=languages,
            language_lock_s=self._language_lock_s(defaults.language_lock_s),
            policy=laid_over(
                defaults.policy,
                name=None if name is None else POLICY_SPELLINGS.get(name) or PolicyName(name),
                min_chunk_ms=self.min_chunk_ms,
                trimming=self.buffer_trimming,
                trimming_s=self.buffer_trimming_s,
                attention=laid_over(defaults.policy.attention, frame_threshold=self.frame_threshold),
            ),
            conditioning=laid_over(
                defaults.conditioning,
                auto_gain=self.auto_gain,
                high_pass=self.high_pass,
                gain_db=0.0 if self.auto_gain else None,
            ),
            formatting=defaults.formatting.chosen(smart_format=self.smart_format, numerals=self.numerals),
            speakers=chosen_mode(self.wants_speakers, self, defaults.speakers, backend),
            speaker_counts=chosen_counts(self, defaults.speaker_counts),
            endpointing=laid_over(
                defaults.endpointing,
                enabled=self.vad_enabled,
                threshold=self.vad_threshold,
                min_speech_ms=self.min_speech_ms,
                min_silence_ms=self.min_silence_ms,
                pre_roll_ms=self.pre_roll_ms,
                speech_pad_ms=self.speech_pad_ms,
                overlap_ms=self.overlap_ms,
                max_utterance_ms=self.max_utterance_ms,
            ),
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


def laid_over(defaults: OptionsT, **chosen: Any) -> OptionsT:
    """`defaults` with what was chosen; None was not."""
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


def decode_message(decoder: msgspec.json.Decoder[MessageT], frame: str | bytes, max_chars: int) -> MessageT:
    """A control message as `decoder` has it. Raises `InvalidMessage` on anything else: size, malformed JSON,
    an unknown type, a value out of range."""
    if len(frame) > max_chars:
        raise InvalidMessage(f"control message of {len(frame)} characters, the limit is {max_chars}")
    try:
        return decoder.decode(frame)
    except msgspec.ValidationError as error:
        raise InvalidMessage(message_of(error)) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidMessage(f"malformed JSON: {message_of(error)}") from None
    except RecursionError:
        raise InvalidMessage("JSON is nested too deeply") from None


def message_of(error: Exception) -> str:
    """The decoder's complaint, short enough to send back."""
    text = str(error).replace("`", "'")
    return text if len(text) <= MAX_ERROR_CHARS else text[:MAX_ERROR_CHARS] + "..."


Parameters: TypeAlias = Iterable[tuple[str, str]]
"""Query parameters or form fields, in order."""


class SessionQuery(SessionChoices, frozen=True, kw_only=True):
    """The parameters of an address that opens a session."""

    session_id: SessionId | None = None
    vad_filter: Annotated[bool, Meta(description="`vad_enabled` under its upload name.")] | None = None


def choices_from_query(parameters: Parameters) -> tuple[str | None, SessionChoices]:
    """Session id (None: the server makes one) and choices from a URL's query parameters.

    `vad_filter` is `vad_enabled` under its upload name; unknown and empty parameters are ignored.
    Raises `InvalidMessage` naming the parameter.
    """
    query = convert_parameters(parameters, SessionQuery)
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
