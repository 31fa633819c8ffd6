"""The settings as one frozen record: read once where the graph is built, then handed down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError, field_validator, model_validator

from serve_app.access.addresses import AddressRules
from serve_app.access.sealing import Seal
from serve_app.asr.engines.choice import runs_whisper
from serve_app.audio.conditioning import ConditioningOptions
from serve_app.audio.formats import canonical_formats
from serve_app.core.addresses import Networks
from serve_app.core.errors import ModelUnavailable, UnsupportedLanguage
from serve_app.core.jobs import AttentionRule, Role
from serve_app.formatting import FormattingOptions
from serve_app.jobs.opening import database_address
from serve_app.jobs.signing import signing_key
from serve_app.models.languages import normalise_language, normalise_languages
from serve_app.settings.define import SettingsError, about
from serve_app.settings.sections_host import (
    AccessSection,
    JobSection,
    MetricSection,
    ModelSection,
    PrivacySection,
    ServerSection,
    SpeakerSection,
    StorageSection,
)
from serve_app.settings.sections_live import (
    DoorSection,
    LimitSection,
    PartialSection,
    RecognitionSection,
    SoundSection,
    SpeechSection,
)
from serve_app.speakers.ports import require_backend
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode
from serve_app.streaming.policy import POLICY_SPELLINGS, PolicyOptions
from serve_app.vad.options import EndpointingOptions

SECTIONS = (
    ServerSection,
    ModelSection,
    RecognitionSection,
    SpeechSection,
    SoundSection,
    PartialSection,
    DoorSection,
    LimitSection,
    AccessSection,
    PrivacySection,
    SpeakerSection,
    StorageSection,
    JobSection,
    MetricSection,
)

OTHER_SPELLINGS: dict[str, dict[str, str]] = {
    "engine": {
        "faster-whisper": "ctranslate2",
        "faster_whisper": "ctranslate2",
        "mlx-whisper": "mlx",
        "mlx_whisper": "mlx",
        "whisper": "torch",
        "openai-whisper": "torch",
    },
    "streaming_policy": {other: name.value for other, name in POLICY_SPELLINGS.items()},
    "diarization_backend": {"diart": "pyannote"},
    "log_level": {"WARN": "WARNING", "FATAL": "CRITICAL"},
}
"""Other servers' values and what they mean here."""

_ENGLISH_INTERIM_MODEL = "tiny.en"
_MULTILINGUAL_INTERIM_MODEL = "base"


_AGAINST_STRICT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "audio_storage_path": (lambda given: given.audio_storage_path is not None, "clips keep audio"),
    "result_cache_enabled": (lambda given: given.result_cache_enabled, "the cache keeps text"),
    "debug": (lambda given: given.debug, "libraries log what they handle"),
    "log_level": (lambda given: given.log_level == "DEBUG", "at DEBUG libraries log what they handle"),
}
"""What keeps audio or words: the setting, whether it does so, and what the operator is told."""


class Settings(
    MetricSection,
    JobSection,
    StorageSection,
    SpeakerSection,
    PrivacySection,
    AccessSection,
    LimitSection,
    DoorSection,
    PartialSection,
    SoundSection,
    SpeechSection,
    RecognitionSection,
    ModelSection,
    ServerSection,
):
    """Every setting of the service; `load_settings` makes it from flags, variables and a file.

    Frozen and picklable. Which fields were given is remembered, also through `to_dict`: `model` sets both
    roles' models, except a role's that was given by its own name.
    """

    @field_validator(
        *OTHER_SPELLINGS,
        *("device", "profile", "task", "vad_backend", "compute_type", "interim_compute", "final_compute"),
        *("result_cache_type", "privacy", "log_format", "buffer_trimming", "language_mode"),
        mode="before",
    )
    @classmethod
    def _known_spelling(cls, value: Any, info: Any) -> Any:
        if not isinstance(value, str):
            return value
        name = value.strip().upper() if info.field_name == "log_level" else value.strip().lower()
        return OTHER_SPELLINGS.get(info.field_name, {}).get(name, name)

    @field_validator(
        "allowed_formats",
        "cors_origins",
        "languages",
        "trusted_proxies",
        "allow_addresses",
        "deny_addresses",
        "outbound_networks",
        mode="before",
    )
    @classmethod
    def _list_from_text(cls, value: Any) -> Any:
        """Take "wav,mp3" and '["wav", "mp3"]' alike."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("expected names separated by commas") from None
        return tuple(part for part in value.replace(",", " ").split() if part)

    @field_validator("allowed_formats")
    @classmethod
    def _formats_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.lower().removeprefix(".") for name in value))
        canonical_formats(names)
        return names

    @field_validator("language")
    @classmethod
    def _language_code(cls, value: str) -> str:
        try:
            return normalise_language(value) or "auto"
        except UnsupportedLanguage as error:
            raise ValueError(str(error)) from None

    @field_validator("engine", "diarization_backend")
    @classmethod
    def _installed(cls, value: str, info: Any) -> str:
        try:
            if info.field_name == "engine":
                runs_whisper(value)
            else:
                require_backend(value)
        except ModelUnavailable as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("trusted_proxies", "allow_addresses", "deny_addresses", "outbound_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        Networks(value)
        return value

    @field_validator("storage_key")
    @classmethod
    def _key_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            Seal(value.get_secret_value())
        return value

    @field_validator("languages")
    @classmethod
    def _language_codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return normalise_languages(value)
        except UnsupportedLanguage as error:
            raise ValueError(str(error)) from None

    @field_validator("log_file", "audit_log_dir", "keys_file")
    @classmethod
    def _from_anywhere(cls, value: Path | None) -> Path | None:
        """Other processes, with other working folders, mean the same."""
        return None if value is None else value.expanduser().absolute()

    @field_validator("disable_audio_logging")
    @classmethod
    def _words_stay_out_of_logs(cls, value: bool) -> bool:
        if not value:
            raise ValueError("audio and words are never logged; clips (audio_storage_path) keep audio")
        return value

    @model_validator(mode="after")
    def _strict_throughout(self) -> Settings:
        if self.privacy == "strict":
            given = [f"{name}: {why}" for name, (kept, why) in _AGAINST_STRICT.items() if kept(self)]
            if given:
                raise ValueError(f"privacy is strict, which contradicts {'; '.join(given)}")
        return self

    @field_validator("webhook_secret")
    @classmethod
    def _signs(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            signing_key(value.get_secret_value())
        return value

    @field_validator("jobs_database")
    @classmethod
    def _has_a_store(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            database_address(value.get_secret_value(), None, Path())
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Settings:
        pairs = (
            ("min_audio_length_seconds", "max_audio_length_seconds"),
            ("final_queue_high", "final_queue_critical"),
            ("interim_queue_high", "interim_queue_critical"),
        )
        for lower, upper in pairs:
            least, most = getattr(self, lower), getattr(self, upper)
            if least is not None and most is not None and least > most:
                raise ValueError(f"{lower} ({least}) must not exceed {upper} ({most})")
        if self.keys_in_redis and self.redis_url is None:
            raise ValueError("keys_in_redis needs redis_url")
        if self.keys_in_redis and self.keys_file is not None:
            raise ValueError("keys_file and keys_in_redis exclude each other")
        if self.metrics_need_key and not self.has_keys:
            raise ValueError("metrics_need_key needs keys: api_key, keys_file or keys_in_redis")
        self.speaker_counts()
        if self.result_cache_enabled and self.result_cache_type == "redis" and self.redis_url is None:
            raise ValueError("result_cache_type redis needs redis_url")
        if self.auto_gain and self.gain_db:
            raise ValueError("gain_db and auto_gain exclude each other")
        return self

    def address_rules(self) -> AddressRules:
        """Which proxies are believed, and which addresses come in."""
        return AddressRules(self.trusted_proxies, self.allow_addresses, self.deny_addresses)

    @property
    def has_keys(self) -> bool:
        """Whether requests need a key."""
        return bool(self.secret("api_key")) or self.keys_file is not None or self.keys_in_redis

    @property
    def interim_model_name(self) -> str:
        """The interims' model: its own name, else `model`, else the default for the language."""
        if "interim_model" in self.model_fields_set:
            return self.interim_model
        if self.model is not None:
            return self.model
        if self.language not in ("auto", "en") and self.interim_model == _ENGLISH_INTERIM_MODEL:
            return _MULTILINGUAL_INTERIM_MODEL
        return self.interim_model

    @property
    def final_model_name(self) -> str:
        """The finals' model: its own name, else `model`, else the default."""
        if "final_model" in self.model_fields_set or self.model is None:
            return self.final_model
        return self.model

    @property
    def offline_model_name(self) -> str:
        """The recordings' model: its own name, else the finals'."""
        return self.offline_model or self.final_model_name

    def model_name(self, role: Role) -> str:
        """The model of a role."""
        if role is Role.INTERIM:
            return self.interim_model_name
        return self.final_model_name if role is Role.FINAL else self.offline_model_name

    def compute_type_for(self, role: Role) -> str:
        """The precision of a role: its own, else `compute_type`; recordings go with finals."""
        own = "interim_compute" if role is Role.INTERIM else "final_compute"
        value: str = getattr(self, own)
        return value if own in self.model_fields_set else self.compute_type

    def voice_in_ingress(self, *, on_gpu: bool) -> bool:
        """Whether the ingress detects voice itself, and the graph has no deployment for it."""
        return self.vad_placement == "ingress" or (self.vad_placement == "auto" and not on_gpu)

    def beam_size_for(self, role: Role) -> int:
        """The beams of a role; recordings go with finals."""
        if role is Role.RECORDING:
            return self.offline_beam_size or self.beam_size
        return self.interim_beam_size if role is Role.INTERIM else self.beam_size

    def policy(self) -> PolicyOptions:
        """The default streaming policy of a session."""
        return PolicyOptions(
            name=self.streaming_policy,
            min_chunk_ms=round(self.min_chunk_s * 1000),
            trimming=self.buffer_trimming,
            trimming_s=self.buffer_trimming_sec,
            attention=AttentionRule(self.frame_threshold, self.rewind_threshold),
        )

    def endpointing(self) -> EndpointingOptions:
        """The default endpointing of a session."""
        return EndpointingOptions(
            enabled=self.vad_enabled,
            threshold=self.vad_threshold,
            min_speech_ms=self.vad_min_speech_ms,
            min_silence_ms=self.vad_min_silence_ms,
            pre_roll_ms=self.vad_pre_roll_ms,
            speech_pad_ms=self.vad_speech_pad_ms,
            overlap_ms=self.overlap_ms,
            max_utterance_ms=round(self.max_utterance_s * 1000),
        )

    def conditioning(self) -> ConditioningOptions:
        """What is done to the sound before it is decoded."""
        return ConditioningOptions(
            dc_removal=self.dc_removal,
            high_pass=self.high_pass,
            high_pass_hz=self.high_pass_hz,
            gain_db=self.gain_db,
            auto_gain=self.auto_gain,
            compressor=self.compressor,
            limiter=self.limiter,
        )

    def speakers(self) -> SpeakerMode:
        """Whether a session or a recording that does not choose says who spoke, and by what."""
        if not self.diarization_enabled:
            return SpeakerMode.OFF
        return SpeakerMode.of(self.diarization_backend)

    def speaker_counts(self) -> SpeakerCounts:
        """How many speakers to expect. Raises `ValueError` where the bounds disagree."""
        return SpeakerCounts(least=self.min_speakers, most=self.max_speakers)

    def formatting(self) -> FormattingOptions:
        """How final text is written."""
        return FormattingOptions(
            casing=self.format_casing, spacing=self.format_spacing, numerals=self.format_numerals
        )

    def secret(self, name: str) -> str | None:
        """The clear text of a secret field, None where it is not set."""
        value = getattr(self, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else None

    def to_dict(self) -> dict[str, Any]:
        """The fields that were given, fit for JSON; secrets in clear, so keep it out of logs."""
        return {name: _plain(getattr(self, name)) for name in sorted(self.model_fields_set)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The inverse of `to_dict`. Raises `SettingsError`."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise SettingsError(
                describe_errors(error, {name: (name, values[name]) for name in values})
            ) from None


def describe_errors(error: ValidationError, given: Mapping[str, tuple[str, Any]]) -> list[str]:
    """One line per problem, with the name and text by which the field was `given`; secrets left out."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        if not field:
            lines.append(message)
            continue
        label, value = given.get(field, (field, ""))
        known = Settings.model_fields.get(field)
        shown = "" if known is None or about(known).secret else f" = {str(value)[:60]!r}"
        lines.append(f"{label}{shown}: {message[:1].lower()}{message[1:]}")
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
