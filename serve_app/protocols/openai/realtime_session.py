"""The settings of one Realtime transcription session: read from updates, shown in full, laid over a session.

GA nests them under `audio.input` (`session.update`), the beta has them flat (`transcription_session.update`);
either is understood wherever it comes. A field that is not given keeps its value, null switches it off.

    turn_detection server_vad    threshold, prefix_padding_ms and silence_duration_ms of our endpointing
    turn_detection semantic_vad  no such model here: silences of 400, 800 or 1500 ms by `eagerness`
    turn_detection null          no endpointing: `commit` ends an utterance
    delay                        the interval of interim texts
    noise_reduction              not done, and shown as null
    model                        `gpt-4o-transcribe-diarize` tells speakers apart, in `segment` events
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serve_app.audio.pcm import Encoding
from serve_app.models.languages import normalise_language
from serve_app.protocols.choices import (
    LanguageName,
    SampleRateHz,
    SessionChoices,
    message_of,
)
from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.request import (
    DIARIZING_MODEL,
    MAX_KEYWORDS,
    ModelName,
    expected_words,
)
from serve_app.session.options import MAX_LANGUAGES, Language, Prompt
from serve_app.vad.options import MinSilenceMs, PreRollMs, VadThreshold

LOGPROBS: Final = "item.input_audio_transcription.logprobs"

_EAGERNESS_MS = MappingProxyType({"low": 1_500, "medium": 800, "auto": 800, "high": 400})
_DELAY_MS = MappingProxyType({"minimal": 100, "low": 200, "medium": 300, "high": 600, "xhigh": 1_000})
_SEMANTIC_PREFIX_MS = 300
_PATH = re.compile(r" - at '\$\.?([^']*)'")

FormatName: TypeAlias = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
BetaFormatName: TypeAlias = Literal["pcm16", "g711_ulaw", "g711_alaw"]
RecordT = TypeVar("RecordT")


class AudioFormat(msgspec.Struct, frozen=True):
    """OpenAI knows 24 kHz only; other rates of PCM are ours. The G.711 ones have 8 kHz."""

    type: FormatName = "audio/pcm"
    rate: SampleRateHz | None | UnsetType = UNSET

    @property
    def encoding(self) -> Encoding:
        encodings: dict[FormatName, Encoding] = {
            "audio/pcm": "pcm16",
            "audio/pcmu": "mulaw",
            "audio/pcma": "alaw",
        }
        return encodings[self.type]

    @property
    def rate_hz(self) -> int:
        return int(self.rate or 24_000) if self.type == "audio/pcm" else 8_000


BETA_FORMATS: dict[str, AudioFormat] = {
    "pcm16": AudioFormat("audio/pcm", 24_000),
    "g711_ulaw": AudioFormat("audio/pcmu"),
    "g711_alaw": AudioFormat("audio/pcma"),
}


class ServerVad(msgspec.Struct, frozen=True, tag_field="type", tag="server_vad"):
    threshold: VadThreshold = 0.5
    prefix_padding_ms: PreRollMs = 300
    silence_duration_ms: MinSilenceMs = 500


class SemanticVad(msgspec.Struct, frozen=True, tag_field="type", tag="semantic_vad"):
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"


TurnDetection: TypeAlias = ServerVad | SemanticVad


class Transcription(msgspec.Struct, frozen=True):
    """What is given of `transcription`; an empty text clears a field, like null."""

    model: ModelName | None | UnsetType = UNSET
    language: Language | None | UnsetType = UNSET
    languages: Annotated[tuple[LanguageName, ...], Meta(max_length=MAX_LANGUAGES)] | None | UnsetType = UNSET
    prompt: Prompt | None | UnsetType = UNSET
    keywords: Annotated[tuple[str, ...], Meta(max_length=MAX_KEYWORDS)] | None | UnsetType = UNSET
    delay: Literal["minimal", "low", "medium", "high", "xhigh"] | None | UnsetType = UNSET


class Input(msgspec.Struct, frozen=True):
    format: AudioFormat | None | UnsetType = UNSET
    transcription: Transcription | None | UnsetType = UNSET
    turn_detection: TurnDetection | None | UnsetType = UNSET


class Audio(msgspec.Struct, frozen=True):
    input: Input = Input()


class SessionUpdate(msgspec.Struct, frozen=True):
    """A partial session as GA or the beta write it."""

    type: str | None = None
    audio: Audio = Audio()
    input_audio_format: BetaFormatName | None | UnsetType = UNSET
    input_audio_transcription: Transcription | None | UnsetType = UNSET
    turn_detection: TurnDetection | None | UnsetType = UNSET
    include: frozenset[Literal["item.input_audio_transcription.logprobs"]] | None | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class RealtimeSession:
    """The effective settings; the defaults are OpenAI's."""

    format: AudioFormat = AudioFormat("audio/pcm", 24_000)
    model: str = "whisper-1"
    language: str | None = None
    languages: tuple[str, ...] = ()
    prompt: str = ""
    keywords: tuple[str, ...] = ()
    delay: str | None = None
    turn_detection: TurnDetection | None = ServerVad()
    logprobs: bool = False

    @property
    def prefix_padding_ms(self) -> int:
        vad = self.turn_detection
        return vad.prefix_padding_ms if isinstance(vad, ServerVad) else _SEMANTIC_PREFIX_MS

    @property
    def silence_ms(self) -> int:
        vad = self.turn_detection
        if isinstance(vad, SemanticVad):
            return _EAGERNESS_MS[vad.eagerness]
        return vad.silence_duration_ms if vad is not None else 0

    @property
    def tells_speakers(self) -> bool:
        return self.model.lower() == DIARIZING_MODEL

    def choices(self) -> SessionChoices:
        """The same for our own session; what the client left open is the server's to choose."""
        vad = self.turn_detection
        cutting: dict[str, Any] = {}
        if vad is not None:
            cutting = {"pre_roll_ms": self.prefix_padding_ms, "min_silence_ms": self.silence_ms}
        return SessionChoices(
            language=self.language or ("auto" if len(self.languages) > 1 else None),
            languages=None if self.language else self.languages or None,
            sample_rate=self.format.rate_hz,
            encoding=self.format.encoding,
            vad_enabled=vad is not None,
            vad_threshold=vad.threshold if isinstance(vad, ServerVad) else None,
            word_timestamps=True if self.logprobs or self.tells_speakers else None,
            diarization=self.tells_speakers,
            partial_results=True,
            partial_interval_ms=None if self.delay is None else _DELAY_MS[self.delay],
            prompt=self.prompt or None,
            hotwords=expected_words(None, self.keywords),
            **cutting,
        )


DEFAULT_SESSION: Final = RealtimeSession()


def decode_session(data: bytes) -> SessionUpdate:
    """A `session` object on its own. Raises `RefusedParameter`, which names the field."""
    update = decode_json(data, SessionUpdate, "session")
    merged(DEFAULT_SESSION, update)
    return update


def merged(session: RealtimeSession, update: SessionUpdate) -> RealtimeSession:
    """The session after an update. Raises `RefusedParameter` and `UnsupportedLanguage`."""
    if update.type not in (None, "transcription"):
        raise RefusedParameter(
            "this server transcribes: session.type must be 'transcription'",
            param="session.type",
            reason="invalid_value",
        )
    nested = update.audio.input
    chosen: dict[str, Any] = {}
    if isinstance(update.input_audio_format, str):
        chosen["format"] = BETA_FORMATS[update.input_audio_format]
    if isinstance(nested.format, AudioFormat):
        rate_hz = nested.format.rate_hz if nested.format.type == "audio/pcm" else UNSET
        chosen["format"] = AudioFormat(nested.format.type, rate_hz)
    for turn_detection in (update.turn_detection, nested.turn_detection):
        if turn_detection is not UNSET:
            chosen["turn_detection"] = turn_detection
    if update.include is not UNSET:
        chosen["logprobs"] = bool(update.include)
    for transcription in (update.input_audio_transcription, nested.transcription):
        if isinstance(transcription, Transcription):
            chosen |= _transcription(transcription, session)
    return replace(session, **chosen)


def refuse_late_change(before: RealtimeSession, after: RealtimeSession) -> None:
    """Once audio has come only language, delay, include and the model's name may change, which cannot begin
    or cease to tell speakers apart then.

    Raises `RefusedParameter` naming the field that came too late.
    """
    for name, path in (
        ("format", "format"),
        ("turn_detection", "turn_detection"),
        ("prompt", "transcription.prompt"),
        ("keywords", "transcription.keywords"),
        ("tells_speakers", "transcription.model"),
    ):
        if getattr(before, name) != getattr(after, name):
            raise RefusedParameter(
                f"{path} cannot be changed once audio has been sent",
                param=f"session.audio.input.{path}",
                reason="session_already_started",
            )


def decode_json(data: str | bytes, record: type[RecordT], root: str = "") -> RecordT:
    """JSON to a record. Raises `RefusedParameter` whose `param` is the path of what is wrong."""
    try:
        return msgspec.json.decode(data, type=record)
    except msgspec.ValidationError as error:
        message = message_of(error)
        found = _PATH.search(message)
        path = ".".join(part for part in (root, found[1] if found else "") if part)
        raise RefusedParameter(message, param=path or None, reason="invalid_value") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise RefusedParameter(f"malformed JSON: {message_of(error)}", reason="invalid_json") from None
    except RecursionError:
        raise RefusedParameter("JSON is nested too deeply", reason="invalid_json") from None


def _transcription(given: Transcription, session: RealtimeSession) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    if given.model is not UNSET:
        chosen["model"] = given.model or session.model
    for name, nothing in (("prompt", ""), ("keywords", ()), ("languages", ())):
        value = getattr(given, name)
        if value is not UNSET:
            chosen[name] = value or nothing
    if given.delay is not UNSET:
        chosen["delay"] = given.delay
    if given.language is not UNSET:
        chosen["language"] = given.language or None
    for language in (*chosen.get("languages", ()), chosen.get("language")):
        normalise_language(language)
    if len(chosen.get("languages", ())) == 1 and not chosen.get("language"):
        chosen["language"] = chosen["languages"][0]
    expected_words(None, chosen.get("keywords", ()))
    return chosen
