"""What settings mean once they are loaded: roles, languages, travel to replicas, the documentation."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import msgspec
import pytest
from pydantic import ValidationError

from serve_app.core.jobs import Role
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.native.transcribe import UploadChoices
from serve_app.settings import ALIASES, Settings, SettingsError, env_name, read_settings
from serve_app.settings.document import settings_document
from serve_app.vad.options import EndpointingOptions

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("given", "interim", "final", "offline"),
    [
        ({}, "tiny.en", "base", "base"),
        ({"model": "large-v3"}, "large-v3", "large-v3", "large-v3"),
        ({"model": "large-v3", "interim_model": "small"}, "small", "large-v3", "large-v3"),
        ({"model": "large-v3", "interim_model": "tiny.en"}, "tiny.en", "large-v3", "large-v3"),
        ({"model": "small", "final_model": "medium"}, "small", "medium", "medium"),
        ({"final_model": "medium"}, "tiny.en", "medium", "medium"),
        ({"offline_model": "large-v2"}, "tiny.en", "base", "large-v2"),
        ({"language": "pt"}, "base", "base", "base"),
        ({"language": "en"}, "tiny.en", "base", "base"),
        ({"language": "pt", "interim_model": "tiny.en"}, "tiny.en", "base", "base"),
    ],
)
def test_models_of_the_roles(given: dict[str, str], interim: str, final: str, offline: str) -> None:
    for settings in (Settings(**given), Settings.from_dict(Settings(**given).to_dict())):
        assert settings.interim_model_name == settings.model_name(Role.INTERIM) == interim
        assert settings.final_model_name == settings.model_name(Role.FINAL) == final
        assert settings.offline_model_name == settings.model_name(Role.RECORDING) == offline


def test_precision_and_beams_of_the_roles() -> None:
    settings = Settings(compute_type="int8", final_compute="float16", beam_size=5)
    assert settings.compute_type_for(Role.INTERIM) == "int8"
    assert settings.compute_type_for(Role.FINAL) == settings.compute_type_for(Role.RECORDING) == "float16"
    assert [settings.beam_size_for(role) for role in Role] == [5, 1, 5]


def test_debug_sets_the_level_where_none_is_given() -> None:
    assert read_settings(environ={"DEBUG": "true"})[0].log_level == "DEBUG"
    assert read_settings(environ={"DEBUG": "false"})[0].log_level == "INFO"
    assert read_settings(environ={"DEBUG": "true", "LOG_LEVEL": "ERROR"})[0].log_level == "ERROR"


@pytest.mark.parametrize("text", ["pt-BR", "Portuguese", "PT", "por"])
def test_languages_are_normalised(text: str) -> None:
    assert Settings(language=text).language == "pt"


def test_lists() -> None:
    assert Settings(allowed_formats="wav, mp3,wav").allowed_formats == ("wav", "mp3")
    assert Settings(allowed_formats='["wav", "mp3"]').allowed_formats == ("wav", "mp3")
    assert Settings(allowed_formats=["ogg"]).allowed_formats == ("ogg",)


def test_endpointing() -> None:
    assert Settings().endpointing() == EndpointingOptions()
    settings = Settings(
        vad_enabled=False,
        vad_threshold=0.3,
        vad_min_speech_ms=1,
        vad_min_silence_ms=700,
        vad_pre_roll_ms=3,
        vad_speech_pad_ms=4,
        overlap_ms=5,
        max_utterance_s=12.5,
    )
    assert settings.endpointing() == EndpointingOptions(False, 0.3, 1, 700, 3, 4, 5, 12_500)


@pytest.mark.parametrize("record", [SessionChoices, UploadChoices], ids=lambda record: record.__name__)
def test_the_defaults_of_a_server_are_what_a_client_may_choose_too(record: type[msgspec.Struct]) -> None:
    """An option takes both ends of its setting's range, and nothing beyond."""
    names = {
        "vad_" + name: name for name in ("min_speech_ms", "min_silence_ms", "pre_roll_ms", "speech_pad_ms")
    }
    scales = {"max_utterance_s": "max_utterance_ms", "max_partial_window_s": "max_partial_window_ms"}
    num_compared = 0
    for setting, field in Settings.model_fields.items():
        name = names.get(setting) or scales.get(setting) or setting
        scale = 1000 if setting in scales else 1
        limits = [getattr(m, end) for m in field.metadata for end in ("ge", "le") if hasattr(m, end)]
        if name in record.__struct_fields__ and len(limits) == 2:
            num_compared += 1
            for limit in limits:
                msgspec.convert({name: limit * scale}, record)
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert({name: limits[1] * scale + 1}, record)
    assert num_compared >= (8 if record is SessionChoices else 3)


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Settings(no_such_field=1)  # type: ignore[call-arg]


def test_it_travels() -> None:
    settings = Settings(
        model="turbo",
        port=9,
        api_key="k",
        model_dir="/models",
        allowed_formats=("wav",),
        cors_origins="https://a.example",
    )
    packed = json.loads(json.dumps(settings.to_dict()))
    assert Settings.from_dict(packed) == settings
    assert Settings.from_dict(packed).model_fields_set == settings.model_fields_set
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings
    assert copy.interim_model_name == "turbo"
    error = pickle.loads(pickle.dumps(SettingsError(["one", "two"])))
    assert (str(error), error.problems) == ("one\ntwo", ("one", "two"))


def test_the_schema_is_json() -> None:
    assert set(json.loads(json.dumps(Settings.model_json_schema()))["properties"]) == set(
        Settings.model_fields
    )


def test_the_documentation_is_up_to_date() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_document(), "run: python -m serve_app.settings > docs/settings.md"


def test_the_documentation_names_everything() -> None:
    page = settings_document()
    for name in (*(env_name(field) for field in Settings.model_fields), *ALIASES):
        assert f"`{name}`" in page
