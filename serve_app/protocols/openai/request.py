"""The form fields of `POST /v1/audio/transcriptions` and `/translations`, checked, as options of a recording.

Lists come as `name[]`, `name` or several of either; `chunking_strategy` as JSON or as
`chunking_strategy[threshold]`. `hotwords` and `vad_filter` are ours beside OpenAI's `keywords`, and so are
`diarize` and the fields with it. Unknown and empty fields are ignored.

Who spoke is told by `diarized_json` with any model's name; with the model `gpt-4o-transcribe-diarize`,
or `diarize`, by `verbose_json`, `srt` and `vtt` too, with `diarize` by `text`. Voices are not matched with
names: a request that brings known speakers is refused, since it counts on their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from serve_app.core.jobs import Task
from serve_app.core.keyterms import MAX_KEYTERMS, Keyterm, with_boost
from serve_app.protocols.choices import (
    LanguageName,
    Parameters,
    chosen_languages,
    laid_over,
    message_of,
)
from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.speaker_choices import DiarizationBackend, Diarize, with_speakers
from serve_app.service.contract import RecordingOptions
from serve_app.session.options import (
    MAX_HOTWORD_CHARS,
    MAX_LANGUAGES,
    Hotwords,
    Language,
    Prompt,
    Temperature,
    VadFilter,
)
from serve_app.speakers.turns import MaxSpeakers, MinSpeakers, NumSpeakers, SpeakerBackend
from serve_app.vad.options import EndpointingOptions, MinSilenceMs, PreRollMs, VadThreshold

MAX_KEYWORDS = MAX_KEYTERMS
MAX_MODEL_CHARS = 256
ModelName: TypeAlias = Annotated[str, Meta(max_length=MAX_MODEL_CHARS)]

LISTS = frozenset({"timestamp_granularities", "include", "keywords", "languages"})
_STRATEGY = "chunking_strategy"
_KNOWN_SPEAKERS = ("known_speaker_names", "known_speaker_references")
DIARIZING_MODEL = "gpt-4o-transcribe-diarize"


class ResponseFormat(StrEnum):
    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VERBOSE_JSON = "verbose_json"
    VTT = "vtt"
    DIARIZED_JSON = "diarized_json"


class ServerVad(msgspec.Struct, frozen=True, tag_field="type", tag="server_vad"):
    """How a recording is cut at its silences."""

    threshold: VadThreshold | None = None
    prefix_padding_ms: PreRollMs | None = None
    silence_duration_ms: MinSilenceMs | None = None

    def endpointing(self, defaults: EndpointingOptions) -> EndpointingOptions:
        return laid_over(
            defaults,
            threshold=self.threshold,
            pre_roll_ms=self.prefix_padding_ms,
            min_silence_ms=self.silence_duration_ms,
        )


class TranscriptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request's fields under their wire names."""

    model: ModelName
    language: Language | None = None
    languages: Annotated[tuple[LanguageName, ...], Meta(max_length=MAX_LANGUAGES)] = ()
    prompt: Prompt | None = None
    keywords: Annotated[tuple[str, ...], Meta(max_length=MAX_KEYWORDS)] = ()
    hotwords: Hotwords | None = None
    response_format: ResponseFormat = ResponseFormat.JSON
    temperature: Temperature | None = None
    timestamp_granularities: frozenset[Literal["word", "segment"]] = frozenset({"segment"})
    include: frozenset[Literal["logprobs"]] = frozenset()
    stream: bool = False
    vad_filter: VadFilter | None = None
    diarize: Diarize | None = None
    num_speakers: NumSpeakers | None = None
    min_speakers: MinSpeakers | None = None
    max_speakers: MaxSpeakers | None = None
    diarization_backend: DiarizationBackend | None = None

    @property
    def wants_speakers(self) -> bool | None:
        """None where the server's own choice stands; its answers to OpenAI's plain formats stay plain."""
        match self.response_format:
            case ResponseFormat.DIARIZED_JSON:
                return True
            case ResponseFormat.JSON:
                return False
            case ResponseFormat.TEXT:
                return bool(self.diarize)
        return True if self.diarize is None and self.model.lower() == DIARIZING_MODEL else self.diarize

    @property
    def wants_logprobs(self) -> bool:
        return "logprobs" in self.include and self.response_format is ResponseFormat.JSON

    @property
    def wants_words(self) -> bool:
        return "word" in self.timestamp_granularities and self.response_format is ResponseFormat.VERBOSE_JSON

    @property
    def wants_segments(self) -> bool:
        return "segment" in self.timestamp_granularities

    def recording_options(
        self,
        task: Task,
        vad: ServerVad | None,
        defaults: RecordingOptions,
        backend: SpeakerBackend = "pyannote",
    ) -> RecordingOptions:
        """The server's defaults with these choices laid over them; `speakers`: how it tells them apart.

        Raises `UnsupportedLanguage`, `InvalidMessage`.
        """
        hotwords = expected_words(self.hotwords, self.keywords)
        subtitles = self.response_format in (ResponseFormat.SRT, ResponseFormat.VTT)
        language, languages = chosen_languages(
            self.language, self.languages or None, defaults.language, defaults.languages
        )
        options = replace(
            laid_over(
                defaults,
                vad_filter=self.vad_filter,
                prompt=self.prompt,
                hotwords=hotwords,
                temperature=self.temperature,
            ),
            language=language,
            languages=languages,
            task=task,
            word_timestamps=subtitles or self.wants_words or self.wants_logprobs,
            endpointing=defaults.endpointing if vad is None else vad.endpointing(defaults.endpointing),
        )
        return with_speakers(options, self.wants_speakers, self, backend)


def transcription_request(fields: Parameters) -> tuple[TranscriptionRequest, ServerVad | None]:
    """The request and, where it chose how to cut, its detector's settings.

    Raises `RefusedParameter` naming the field that cannot be understood or served.
    """
    given, strategy = _grouped(fields)
    if "model" not in given:
        raise RefusedParameter("you must provide a model parameter", param="model")
    request = _converted(given, TranscriptionRequest)
    if request.stream and request.response_format in (ResponseFormat.SRT, ResponseFormat.VTT):
        raise RefusedParameter(
            f"response_format {request.response_format.value!r} cannot be streamed",
            param="response_format",
            reason="unsupported_value",
        )
    return request, _server_vad(strategy)


def expected_words(hotwords: str | None, keywords: tuple[str, ...]) -> str | None:
    """One string of words to expect; None where none were given. Raises `RefusedParameter` on too many."""
    if hotwords is None and not keywords:
        return None
    words = [hotwords or "", *(with_boost(Keyterm(word.strip())) for word in keywords)]
    joined = ", ".join(word.strip() for word in words if word.strip())
    if len(joined) > MAX_HOTWORD_CHARS:
        raise RefusedParameter(f"keywords over {MAX_HOTWORD_CHARS} characters in all", param="keywords")
    return joined


def _grouped(fields: Parameters) -> tuple[dict[str, Any], dict[str, str] | str]:
    given: dict[str, Any] = {}
    parts: dict[str, str] = {}
    strategy = ""
    for name, value in fields:
        base = name.partition("[")[0]
        if not value:
            continue
        if base in _KNOWN_SPEAKERS:
            raise RefusedParameter(
                "voices are not matched with names here: speakers are called A, B and so on",
                param=base,
                reason="unsupported_parameter",
            )
        if base in LISTS:
            given.setdefault(base, []).append(value)
        elif name == _STRATEGY:
            strategy = value
        elif base == _STRATEGY:
            parts[name[len(base) + 1 :].rstrip("]")] = value
        elif given.setdefault(name, value) != value:
            raise RefusedParameter(f"{name[:64]!r} is given twice with different values", param=name[:64])
    return given, parts or strategy


def _server_vad(strategy: dict[str, str] | str) -> ServerVad | None:
    if strategy in ("", "auto"):
        return None
    given: Any = strategy
    try:
        if isinstance(strategy, str):
            given = msgspec.json.decode(strategy)
            if given in ("auto", None):
                return None
        return msgspec.convert(given, ServerVad, strict=False)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise RefusedParameter(message_of(error), param=_STRATEGY, reason="invalid_value") from None


def _converted(given: Mapping[str, Any], record: type[TranscriptionRequest]) -> TranscriptionRequest:
    """Field by field, so that the one at fault can be named."""
    for name in record.__struct_fields__:
        if name in given:
            single = {"model": "-", name: given[name]}
            try:
                msgspec.convert(single, record, strict=False)
            except (msgspec.ValidationError, UnicodeError) as error:
                raise RefusedParameter(message_of(error), param=name, reason="invalid_value") from None
    return msgspec.convert(dict(given), record, strict=False)
