"""The query parameters of `/v1/listen`, live and for recordings, as one record.

Nothing that a client asks for is dropped silently: an option is honoured, or refused with its name, or
accepted with a warning that the answer's metadata carries. Booleans may be written in any case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from serve_app.core.errors import InvalidMessage
from serve_app.core.keyterms import MAX_BOOST, MAX_KEYTERMS, Keyterm, with_boost
from serve_app.models.languages import normalise_language, normalise_languages
from serve_app.protocols.choices import (
    LanguageName,
    NumChannels,
    Parameters,
    SampleRateHz,
    SessionChoices,
    convert_parameters,
)
from serve_app.protocols.deepgram import records
from serve_app.protocols.deepgram.audio_options import audio_input
from serve_app.protocols.dialect import AudioInput, ContainerAudio, RawAudio
from serve_app.session.options import MAX_HOTWORD_CHARS, MAX_LANGUAGES
from serve_app.vad.options import MAX_SILENCE_MS

MIN_ENDPOINT_MS: Final = 300
"""The shortest pause that ends an utterance here. A shorter `endpointing` (Deepgram's default is 10 ms, the
plugins ask for 25) would cut between words: it means "as soon as possible", which is this."""

MIN_UTTERANCE_END_MS: Final = 1_000
MAX_VALUES: Final = 100
"""Values of one repeated parameter, as in Deepgram's own limit for topics and search terms."""
MAX_VALUE_CHARS: Final = 256
MAX_WARNINGS: Final = 32
MAX_BOOST_CHARS: Final = 16

REPEATED: Final = MappingProxyType(
    {
        "detect_language": "Detect the language, of those named alone where some are.",
        "extra": "`key:value`, which the metadata repeats.",
        "keyterm": "A word or phrase to expect.",
        "keywords": "The same, or `word:boost`, up to 3.",
        "replace": "`spoken:written`, a word to write otherwise.",
        "search": "A phrase to find.",
        "tag": "A label that the metadata repeats.",
    }
)
"""The parameters that may be given several times, with their meanings."""

NOT_SERVED: Final = MappingProxyType(
    {
        "alternatives": "one alternative is given",
        "custom_intent": "intents are not recognised",
        "custom_topic": "topics are not detected",
        "detect_entities": "entities are not detected",
        "detect_topics": "topics are not detected",
        "dictation": "spoken punctuation stays in words",
        "filler_words": "the models here leave filler words out",
        "intents": "intents are not recognised",
        "language_hint": "hints do not limit the detected language",
        "measurements": "units are not abbreviated",
        "profanity_filter": "no words are filtered",
        "sentiment": "sentiment is not analysed",
        "summarize": "no summary is made",
        "tier": "the server's own models are used",
        "topics": "topics are not detected",
    }
)
"""Asked for in vain, but an answer without it is still an answer."""

_WITHOUT_EFFECT: Final = frozenset(
    {"custom_intent_mode", "custom_topic_mode", "mip_opt_out", "no_delay", "token"}
    | {"access_token", "diarize_version"}
)
"""What they ask for is so anyway (no audio is kept, no answer is held back), or is another layer's affair, or
chooses among Deepgram's own models."""

_OFF: Final = frozenset({"", "false", "0", "no", "none"})


class OptionWarning(NamedTuple):
    """An option that the answer does not have, or audio that was damaged, as the metadata names it."""

    parameter: str
    message: str
    kind: str = "unsupported_parameter"

    def record(self) -> records.OptionWarning:
        return records.OptionWarning(parameter=self.parameter, type=self.kind, message=self.message)


class ListenQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that have one value."""

    model: Annotated[str, Meta(max_length=128, description="Any name: the server's own models answer.")] = ""
    version: Annotated[
        str, Meta(max_length=128, description="Any but `latest` is answered with a warning.")
    ] = ""
    language: Annotated[
        LanguageName | None,
        Meta(description="Language of the speech; `multi` detects it for every utterance."),
    ] = None
    encoding: (
        Annotated[
            str,
            Meta(
                max_length=32,
                description="Raw samples: `linear16`, `linear32`, `mulaw`, `alaw`; else a container.",
            ),
        ]
        | None
    ) = None
    sample_rate: Annotated[
        SampleRateHz | None, Meta(description="Samples a second, needed with `linear16` and `linear32`.")
    ] = None
    channels: Annotated[NumChannels, Meta(description="Interleaved channels of raw audio.")] = 1
    multichannel: Annotated[
        bool, Meta(description="A transcript for each channel, of live containers one of their mix.")
    ] = False
    interim_results: Annotated[bool, Meta(description="Send results that are not final.")] = False
    endpointing: (
        Annotated[
            str,
            Meta(
                max_length=16,
                description="Milliseconds of silence that end an utterance (300 at least), or `false`.",
            ),
        ]
        | None
    ) = None
    utterance_end_ms: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000,
            description="Send `UtteranceEnd` after so long (at least 1000) without words; with interims.",
        ),
    ] = 0
    vad_events: Annotated[bool, Meta(description="Send `SpeechStarted`.")] = False
    diarize: Annotated[
        bool, Meta(description="Tell speakers apart: words have `speaker`, counted from 0.")
    ] = False
    diarize_model: Annotated[
        str,
        Meta(max_length=32, description="The same; whichever is named, the server's own tells them apart."),
    ] = ""
    punctuate: Annotated[bool, Meta(description="Punctuation and capitals.")] = False
    smart_format: Annotated[bool, Meta(description="The same, and numbers as digits.")] | None = None
    numerals: Annotated[bool, Meta(description="Numbers as digits.")] | None = None
    paragraphs: Annotated[bool, Meta(description="Add paragraphs.")] = False
    utterances: Annotated[bool, Meta(description="Add utterances, split at pauses.")] = False
    utt_split: Annotated[
        float, Meta(gt=0.0, le=60.0, description="Seconds of pause that split utterances.")
    ] = 0.8
    callback: Annotated[
        str, Meta(max_length=2048, description="Answer at once, and send the transcript here later.")
    ] = ""
    callback_method: Annotated[
        str, Meta(pattern="^([Pp][Oo][Ss][Tt]|[Pp][Uu][Tt])$", description="`post` or `put`.")
    ] = "post"


LIVE_ONLY: Final = frozenset({"interim_results", "endpointing", "utterance_end_ms", "vad_events"})
RECORDED_ONLY: Final = frozenset({"paragraphs", "utterances", "utt_split", "callback", "callback_method"})
CALLBACKS: Final = frozenset({"callback", "callback_method"})
"""Where the answer goes: a job is kept without them."""


@dataclass(frozen=True, slots=True)
class TextOptions:
    """How text is written. `punctuated` False: small letters and no marks, Deepgram's way unless asked."""

    punctuated: bool = False
    smart_format: bool | None = None
    numerals: bool | None = None
    replacements: tuple[tuple[str, str], ...] = ()
    queries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """One request's choices.

    `language` is a Whisper code or None, the server's own; `detect_language`: none, in place of the server's;
    `multilingual`: detected for every utterance anew. `endpoint_ms` None: the server's own; `endpoints`
    False: no result is `speech_final`. `multichannel`: a transcript for each channel, of a recording's
    container too. `diarize`: words have speakers, whichever model was named for it.
    """

    model: str = ""
    language: str | None = None
    detect_language: bool = False
    detect_among: tuple[str, ...] = ()
    multilingual: bool = False
    audio: AudioInput = ContainerAudio()
    channels: int = 1
    multichannel: bool = False
    interim_results: bool = False
    endpoints: bool = True
    endpoint_ms: int | None = None
    utterance_end_ms: int | None = None
    vad_events: bool = False
    diarize: bool = False
    text: TextOptions = TextOptions()
    paragraphs: bool = False
    utterances: bool = False
    utterance_split_s: float = 0.8
    hotwords: str = ""
    tags: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    warnings: tuple[OptionWarning, ...] = ()
    callback: str = ""
    callback_method: str = "POST"

    @property
    def num_streams(self) -> int:
        """Transcripts that are made of it."""
        return self.channels if self.multichannel else 1

    def session_choices(self) -> SessionChoices:
        """The same for a live session: word times always, text formatted as asked."""
        detect = self.detect_language or self.multilingual
        return SessionChoices(
            language="auto" if detect else self.language,
            languages=self.detect_among or None,
            language_mode="utterance" if self.multilingual else None,
            partial_results=self.interim_results,
            word_timestamps=True,
            hotwords=self.hotwords or None,
            min_silence_ms=self.endpoint_ms,
            smart_format=self.text.smart_format,
            numerals=self.text.numerals,
            diarization=self.diarize,
        )


def parse_options(parameters: Parameters, *, live: bool) -> ListenOptions:
    """Query parameters to options. Raises `InvalidMessage` or `UnsupportedLanguage` naming the parameter."""
    scalars, repeated, warnings = _sorted(parameters, live)
    query = convert_parameters(scalars, ListenQuery)
    if query.version not in ("", "latest"):
        warnings.append(OptionWarning("version", "the server's own models are used"))
    given = {name for name, _ in scalars}
    for name in sorted(given & (RECORDED_ONLY if live else LIVE_ONLY)):
        warnings.append(OptionWarning(name, f"it is for {'recordings' if live else 'live streams'}"))
    endpoints, endpoint_ms = _endpointing(query.endpointing)
    rate_hz = None if query.sample_rate is None else int(query.sample_rate)
    audio = audio_input(query.encoding, rate_hz, query.channels, query.multichannel)
    splits = query.multichannel and (not live or isinstance(audio, RawAudio))
    if query.multichannel and not splits:
        warnings.append(OptionWarning("multichannel", "the channels of a container are mixed to one"))
    detect, among = _detects(repeated.get("detect_language", []))
    multilingual = (query.language or "").strip().lower() == "multi"
    hotwords = _hotwords(repeated, warnings)
    smart = bool(query.smart_format)
    return ListenOptions(
        model=query.model,
        language=normalise_language(query.language) if query.language else None,
        detect_language=detect,
        detect_among=among,
        multilingual=multilingual,
        audio=audio,
        channels=query.channels,
        multichannel=splits,
        interim_results=query.interim_results,
        endpoints=endpoints,
        endpoint_ms=endpoint_ms,
        utterance_end_ms=_utterance_end_ms(query) if live else None,
        vad_events=query.vad_events,
        diarize=query.diarize or query.diarize_model.strip().lower() not in _OFF,
        text=TextOptions(
            punctuated=query.punctuate or smart or (query.paragraphs and not live),
            smart_format=query.smart_format,
            numerals=query.numerals,
            replacements=tuple(_pair(value, "replace") for value in repeated.get("replace", [])),
            queries=tuple(repeated.get("search", [])),
        ),
        paragraphs=query.paragraphs or smart,
        utterances=query.utterances,
        utterance_split_s=query.utt_split,
        hotwords=hotwords,
        tags=tuple(repeated.get("tag", [])),
        extra=tuple(_pair(value, "extra") for value in repeated.get("extra", [])),
        warnings=tuple(warnings[:MAX_WARNINGS]),
        callback="" if query.callback.strip().lower() in _OFF else query.callback,
        callback_method=query.callback_method.upper(),
    )


def _sorted(
    parameters: Parameters, live: bool
) -> tuple[list[tuple[str, str]], dict[str, list[str]], list[OptionWarning]]:
    """Parameters that have one value, those that have many, and warnings of what is not served."""
    scalars: list[tuple[str, str]] = []
    repeated: dict[str, list[str]] = {}
    warnings: dict[str, OptionWarning] = {}
    for name, value in parameters:
        is_on = value.strip().lower() not in _OFF
        if name in _REFUSED and is_on and (live or name not in CALLBACKS):
            raise InvalidMessage(_REFUSED[name])
        if name in NOT_SERVED:
            if is_on and not (name == "alternatives" and value == "1"):
                warnings[name] = OptionWarning(name, NOT_SERVED[name])
        elif name in REPEATED:
            _append(repeated.setdefault(name, []), name, value)
        elif name in ListenQuery.__struct_fields__:
            scalars.append((name, value))
        elif name not in _WITHOUT_EFFECT and name not in _REFUSED and len(warnings) < MAX_WARNINGS:
            shown = _printable(name)
            warnings[shown] = OptionWarning(shown, "no such parameter")
    return scalars, repeated, list(warnings.values())


_REFUSED: Final = MappingProxyType(
    {
        "callback": "callback: live results come on the socket; it is for recordings",
        "redact": "redact: text cannot be redacted here",
    }
)
"""Going on without these would do what the client did not want."""


def _append(values: list[str], name: str, value: str) -> None:
    if not value:
        return
    if len(value) > MAX_VALUE_CHARS:
        raise InvalidMessage(f"{name}: a value of {len(value)} characters, the limit is {MAX_VALUE_CHARS}")
    max_values = MAX_KEYTERMS if name in ("keyterm", "keywords") else MAX_VALUES
    if len(values) >= max_values:
        raise InvalidMessage(f"{name}: more than {max_values} values")
    values.append(value)


def _printable(name: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in name[:64])


def _pair(value: str, name: str) -> tuple[str, str]:
    key, colon, rest = value.partition(":")
    if not colon or not key.strip():
        raise InvalidMessage(f"{name}: expected KEY:VALUE, got {value[:64]!r}")
    return key.strip(), rest.strip()


def _endpointing(value: str | None) -> tuple[bool, int | None]:
    """Whether results say `speech_final`, and the silence that it takes (None: the server's)."""
    text = (value or "").strip().lower()
    if text in ("", "true"):
        return True, None
    if text == "false":
        return False, None
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_SILENCE_MS:
        raise InvalidMessage(
            f"endpointing: expected false or 0 to {MAX_SILENCE_MS} milliseconds, got {text!r}"
        )
    return True, max(int(text), MIN_ENDPOINT_MS)


def _utterance_end_ms(query: ListenQuery) -> int | None:
    if not query.utterance_end_ms:
        return None
    if query.utterance_end_ms < MIN_UTTERANCE_END_MS:
        raise InvalidMessage(
            f"utterance_end_ms: expected at least {MIN_UTTERANCE_END_MS}, got {query.utterance_end_ms}"
        )
    if not query.interim_results:
        raise InvalidMessage("utterance_end_ms: needs interim_results=true")
    return query.utterance_end_ms


def _detects(values: list[str]) -> tuple[bool, tuple[str, ...]]:
    """Whether the language is to be detected, and among which where some are named. Raises
    `UnsupportedLanguage`."""
    wanted = [value for value in values if value.strip().lower() not in _OFF]
    named = [value for value in wanted if value.strip().lower() not in ("true", "1")]
    return bool(wanted), normalise_languages(named[:MAX_LANGUAGES])


def _hotwords(repeated: dict[str, list[str]], warnings: list[OptionWarning]) -> str:
    """`keyterm` as it is, `keywords` with their boost; a keyword to suppress is left out. Raises
    `InvalidMessage` for a boost that is no number."""
    terms = [Keyterm(term.strip()) for term in repeated.get("keyterm", [])]
    for keyword in repeated.get("keywords", []):
        term, _, boost = keyword.partition(":")
        factor = _boost(boost)
        if factor < 0:
            warnings.append(OptionWarning("keywords", "words can be expected, not suppressed"))
        elif factor > MAX_BOOST:
            warnings.append(OptionWarning("keywords", f"boosts over {MAX_BOOST:g} count as {MAX_BOOST:g}"))
        if factor > 0:
            terms.append(Keyterm(term.strip(), min(factor, MAX_BOOST)))
    return join_hotwords(terms)


def _boost(text: str) -> float:
    """1 where none was given."""
    if not text.strip():
        return 1.0
    try:
        factor = float(text) if text.isascii() and len(text) <= MAX_BOOST_CHARS else math.nan
    except ValueError:
        factor = math.nan
    if not math.isfinite(factor):
        raise InvalidMessage(f"keywords: the boost {text[:MAX_BOOST_CHARS]!r} is no number")
    return factor


def join_hotwords(terms: Iterable[Keyterm]) -> str:
    """Each term once. Raises `InvalidMessage` where they are too long together."""
    hotwords = ", ".join(dict.fromkeys(with_boost(term) for term in terms if term.text))
    if len(hotwords) > MAX_HOTWORD_CHARS:
        raise InvalidMessage(f"keyterm: {len(hotwords)} characters, the limit is {MAX_HOTWORD_CHARS}")
    return hotwords
