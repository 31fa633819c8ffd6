"""Where settings come from, by which names, what is refused, and what the documentation says of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from serve_app.settings import (
    ALIASES,
    FLAGS,
    Settings,
    SettingsError,
    env_name,
    load_settings,
    read_settings,
)
from serve_app.settings.define import about

ROOT = Path(__file__).resolve().parents[2]

# Every variable of other servers: alias, a value, our field, what it becomes.
OTHER_NAMES: list[tuple[str, str, str, Any]] = [
    ("STT_WHISPER_MODEL", "distil-large-v3", "model", "distil-large-v3"),
    ("WHISPER_MODEL", "openai/whisper-large-v3", "model", "openai/whisper-large-v3"),
    ("INTERIM_MODEL", "small", "interim_model", "small"),
    ("FINAL_MODEL", "distil-large-v3", "final_model", "distil-large-v3"),
    ("INTERIM_COMPUTE", "int8_float16", "interim_compute", "int8_float16"),
    ("FINAL_COMPUTE", "float16", "final_compute", "float16"),
    ("WHISPER_COMPUTE_TYPE", "int8", "compute_type", "int8"),
    ("DEVICE", "cpu", "device", "cpu"),
    ("WHISPER_DEVICE", "cuda", "device", "cuda"),
    ("WHISPER_BACKEND", "mlx-whisper", "engine", "mlx"),
    ("WHISPER_BEAM_SIZE", "5", "beam_size", 5),
    ("WHISPER_LANGUAGE", "en", "language", "en"),
    ("WHISPER_NUM_WORKERS", "2", "num_workers", 2),
    ("NUM_WORKERS", "3", "num_workers", 3),
    ("MODEL_LOAD_TIMEOUT", "300", "model_load_timeout_s", 300),
    ("HF_HOME", "/models/hf", "hf_home", Path("/models/hf")),
    ("HF_TOKEN", "hf_a", "hf_token", "hf_a"),
    ("HUGGINGFACE_TOKEN", "hf_b", "hf_token", "hf_b"),
    ("HUGGING_FACE_HUB_TOKEN", "hf_c", "hf_token", "hf_c"),
    ("HF_HUB_OFFLINE", "1", "offline", True),
    ("BACKEND_POLICY", "simulstreaming", "streaming_policy", "align_att"),
    ("MIN_CHUNK_SIZE", "0.1", "min_chunk_s", 0.1),
    ("BUFFER_TRIMMING", "sentence", "buffer_trimming", "sentence"),
    ("BUFFER_TRIMMING_SEC", "15", "buffer_trimming_sec", 15),
    ("VAD_ENABLED", "false", "vad_enabled", False),
    ("DIARIZATION_ENABLED", "true", "diarization_enabled", True),
    ("DIARIZATION_BACKEND", "diart", "diarization_backend", "pyannote"),
    ("PYANNOTE_MODEL", "pyannote/other", "pyannote_model", "pyannote/other"),
    ("INTERIM_COOLDOWN_MS", "220", "partial_interval_ms", 220),
    ("TAIL_SECONDS", "7", "max_partial_window_s", 7),
    ("SCHEDULER_TICK_MS", "12", "tick_ms", 12),
    ("FINAL_HI", "5", "final_queue_high", 5),
    ("FINAL_CRIT", "13", "final_queue_critical", 13),
    ("INTERIM_HI", "21", "interim_queue_high", 21),
    ("INTERIM_CRIT", "41", "interim_queue_critical", 41),
    ("BIND_HOST", "0.0.0.0", "host", "0.0.0.0"),
    ("BIND_PORT", "8081", "port", 8081),
    ("API_HOST", "0.0.0.0", "host", "0.0.0.0"),
    ("API_PORT", "8001", "port", 8001),
    ("API_WORKERS", "2", "num_ingress_replicas", 2),
    ("API_KEY", "secret", "api_key", "secret"),
    ("WHISPER_API_KEY", "secret", "api_key", "secret"),
    ("WHISPER_SERVICE_URL", "http://stt:8000", "service_url", "http://stt:8000"),
    (
        "CORS_ORIGINS",
        "https://a.example, https://b.example",
        "cors_origins",
        ("https://a.example", "https://b.example"),
    ),
    ("ENABLE_CACHE", "true", "result_cache_enabled", True),
    ("CACHE_TYPE", "redis", "result_cache_type", "redis"),
    ("CACHE_DIR", "./cache", "result_cache_dir", Path("cache")),
    ("CACHE_MAX_SIZE_MB", "500", "result_cache_max_size_mb", 500),
    ("REDIS_URL", "redis://redis:6379/0", "redis_url", "redis://redis:6379/0"),
    ("MAX_FILE_SIZE_MB", "10", "max_file_size_mb", 10),
    ("MAX_AUDIO_LENGTH_SECONDS", "30", "max_audio_length_seconds", 30),
    ("MIN_AUDIO_LENGTH_SECONDS", "0.2", "min_audio_length_seconds", 0.2),
    ("ALLOWED_FORMATS", "wav,.MP3, ogg", "allowed_formats", ("wav", "mp3", "ogg")),
    ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ("LOG_FILE", "./logs/stt.log", "log_file", Path("logs/stt.log").absolute()),
    ("DEBUG", "true", "debug", True),
    ("ENABLE_METRICS", "false", "metrics_enabled", False),
    ("METRICS_PORT", "9090", "metrics_port", 9090),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318", "otlp_endpoint", "http://otel:4318"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=k", "otlp_headers", "api-key=k"),
    ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/x", "slack_webhook_url", "https://hooks.slack.com/x"),
    ("OTEL_TRACES_SAMPLER_ARG", "0.25", "trace_sample_ratio", 0.25),
    ("AUDIO_STORAGE_PATH", "/data", "audio_storage_path", "/data"),
    ("DELETE_AUDIO_IMMEDIATELY", "true", "delete_audio_immediately", True),
    ("DISABLE_AUDIO_LOGGING", "True", "disable_audio_logging", True),
]

# Variables that other servers already call by our own names.
SAME_NAMES: list[tuple[str, str, Any]] = [
    ("STT_HOST", "0.0.0.0", "0.0.0.0"),
    ("STT_PORT", "9000", 9000),
    ("STT_MAX_SESSIONS", "10", 10),
    ("STT_COMPUTE_TYPE", "int8_float16", "int8_float16"),
    ("STT_DEVICE", "cuda", "cuda"),
    ("STT_LANGUAGE", "pt", "pt"),
    ("STT_VAD_ENABLED", "false", False),
    ("STT_VAD_THRESHOLD", "0.4", 0.4),
    ("STT_VAD_MIN_SPEECH_MS", "200", 200),
    ("STT_VAD_MIN_SILENCE_MS", "700", 700),
    ("STT_PARTIAL_INTERVAL_MS", "200", 200),
    ("STT_MAX_PARTIAL_WINDOW_S", "5", 5),
    ("STT_MAX_UTTERANCE_S", "20", 20),
    ("STT_MAX_BUFFER_MS", "4000", 4000),
    ("STT_MAX_QUEUE_DEPTH", "20", 20),
    ("STT_MAX_ESTIMATED_SERVER_TOTAL_MS", "800", 800),
    ("STT_LOG_LEVEL", "WARNING", "WARNING"),
]


def value_of(settings: Settings, field: str) -> Any:
    return settings.secret(field) or getattr(settings, field)


def problems_of(**arguments: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read_settings(**{"environ": {}, **arguments})
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("alias", "text", "field", "value"), OTHER_NAMES, ids=[row[0] for row in OTHER_NAMES]
)
def test_other_servers_names(tmp_path: Path, alias: str, text: str, field: str, value: Any) -> None:
    assert value_of(read_settings(environ={alias: text})[0], field) == value
    file = tmp_path / "settings.env"
    file.write_text(f"{alias}={text}\n")
    assert value_of(read_settings(environ={}, env_file=file)[0], field) == value


def test_the_table_holds_every_alias() -> None:
    assert {alias: field for alias, _, field, _ in OTHER_NAMES} == ALIASES


def test_every_alias_means_one_setting() -> None:
    listed = [alias for field in Settings.model_fields.values() for alias in about(field).aliases]
    assert len(listed) == len(set(listed))
    assert not set(listed) & {env_name(field) for field in Settings.model_fields}


@pytest.mark.parametrize(("name", "text", "value"), SAME_NAMES, ids=[row[0] for row in SAME_NAMES])
def test_shared_names(name: str, text: str, value: Any) -> None:
    settings, _ = read_settings(environ={name: text})
    assert getattr(settings, name.removeprefix("STT_").lower()) == value


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_field_has_its_variable_and_its_flag(field: str) -> None:
    default = getattr(Settings(), field)
    unset = "1" * 32 if field == "storage_key" else "1"
    text = unset if default is None else ",".join(default) if isinstance(default, tuple) else str(default)
    known = {
        "languages": "en",
        "cors_origins": "x",
        "otlp_endpoint": "http://collector:4318",
        "jobs_database": "sqlite://",
    }
    text = known.get(field, text or "::1")
    assert field in read_settings(environ={env_name(field): text})[0].model_fields_set
    flags = {"--" + field.replace("_", "-"): text}
    assert field in read_settings(environ={}, flags=flags)[0].model_fields_set


@pytest.mark.parametrize(
    ("flag", "value", "field", "expected"),
    [
        ("--model", "large-v3-turbo", "model", "large-v3-turbo"),
        ("--language", "en", "language", "en"),
        ("--port", "4300", "port", 4300),
        ("--host", "0.0.0.0", "host", "0.0.0.0"),
        ("--workers", "2", "num_ingress_replicas", 2),
        ("--diarization", True, "diarization_enabled", True),
        ("max-sessions", 5, "max_sessions", 5),
        ("max_sessions", 5, "max_sessions", 5),
    ],
)
def test_start_flags(flag: str, value: Any, field: str, expected: Any) -> None:
    settings, _ = read_settings(environ={}, flags={flag: value})
    assert getattr(settings, field) == expected


def test_flags_that_were_not_given_are_none() -> None:
    settings, _ = read_settings(environ={"STT_PORT": "9"}, flags={"port": None, "model": None})
    assert settings.port == 9


def test_no_flag_means_two_settings() -> None:
    extra = [flag for field in Settings.model_fields.values() for flag in about(field).flags]
    assert len(FLAGS) == len(Settings.model_fields) + len(extra)


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("STT_PORT=4\nAPI_PORT=5\n")
    environ = {"STT_PORT": "2", "API_PORT": "3"}
    flags = {"port": 1}
    found = []
    for remove in (None, flags, environ, environ):
        if remove:
            remove.pop(next(iter(remove)))
        found.append(read_settings(environ=environ, flags=flags, env_file=file)[0].port)
    file.write_text("API_PORT=5\n")
    found.append(read_settings(environ={}, env_file=file)[0].port)
    file.write_text("")
    found.append(read_settings(environ={}, env_file=file)[0].port)
    assert found == [1, 2, 3, 4, 5, 8000]


def test_an_alias_in_the_environment_wins_over_our_name_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("STT_PORT=4\n")
    assert read_settings(environ={"BIND_PORT": "3"}, env_file=file)[0].port == 3


def test_contradicting_aliases_are_refused_by_name(tmp_path: Path) -> None:
    (problem,) = problems_of(environ={"API_PORT": "8001", "BIND_PORT": "8081"})
    assert problem == "API_PORT and BIND_PORT both set STT_PORT and contradict each other: remove one"
    file = tmp_path / ".env"
    file.write_text("HF_TOKEN=hf_one\nHUGGINGFACE_TOKEN=hf_two\n")
    (problem,) = problems_of(env_file=file)
    assert "HF_TOKEN (in the .env file) and HUGGINGFACE_TOKEN (in the .env file)" in problem
    assert "hf_one" not in problem


def test_aliases_that_agree_are_fine() -> None:
    environ = {"WHISPER_DEVICE": "CPU", "DEVICE": "cpu", "WHISPER_NUM_WORKERS": "02", "NUM_WORKERS": "2"}
    settings, warnings = read_settings(environ=environ)
    assert (settings.device, settings.num_workers) == ("cpu", 2)
    assert warnings == ()


def test_our_own_name_settles_a_contradiction() -> None:
    settings, _ = read_settings(environ={"API_PORT": "1", "BIND_PORT": "2", "STT_PORT": "3"})
    assert settings.port == 3


def test_flags_that_contradict() -> None:
    (problem,) = problems_of(flags={"--workers": 2, "num_ingress_replicas": 3})
    assert "--workers and num_ingress_replicas" in problem


def test_an_empty_value_is_not_given(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("API_KEY=\nSTT_PORT=\nSTT_MODEL\n")
    settings, warnings = read_settings(environ={"STT_MODEL": "", "API_KEY": "  "}, env_file=file)
    assert settings.model_fields_set == set()
    assert warnings == ()


def test_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text('# a comment\nexport STT_PORT=4000\nSTT_INITIAL_PROMPT="Dr. ${UNNAMED} #1"\n')
    settings, _ = read_settings(environ={"STT_ENV_FILE": str(file)})
    assert settings.port == 4000
    assert settings.initial_prompt == "Dr. ${UNNAMED} #1"
    monkeypatch.chdir(tmp_path)
    assert read_settings(environ={})[0].port == 8000
    for name in [name for name in os.environ if name.startswith("STT_") or name in ALIASES]:
        monkeypatch.delenv(name)
    assert read_settings()[0].port == 4000
    assert read_settings(environ=os.environ)[0].port == 4000
    monkeypatch.setenv("STT_PORT", "4001")
    assert read_settings()[0].port == 4001


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (problem,) = problems_of(env_file=tmp_path / "gone.env")
    assert problem.endswith("gone.env: the settings file cannot be read (FileNotFoundError)")
    binary = tmp_path / "binary.env"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "UnicodeDecodeError" in problems_of(env_file=binary)[0]


def test_unknown_variables_name_the_nearest() -> None:
    _, warnings = read_settings(
        environ={"STT_VAD_TRESHOLD": "0.4", "STT_QQQQQQQQ": "1", "PATH": "/bin", "STT_WISPER_MODEL": "x"}
    )
    assert warnings == (
        "STT_VAD_TRESHOLD is no setting of ours and is ignored; did you mean STT_VAD_THRESHOLD?",
        "STT_QQQQQQQQ is no setting of ours and is ignored",
        "STT_WISPER_MODEL is no setting of ours and is ignored; did you mean STT_WHISPER_MODEL?",
    )


def test_unknown_flags_are_refused() -> None:
    assert problems_of(flags={"--modle": "x"}) == ("--modle: there is no such setting; did you mean model?",)


def test_our_names_in_any_case() -> None:
    assert read_settings(environ={"stt_port": "9"})[0].port == 9
    assert read_settings(environ={"api_port": "9"})[0].port == 8000


def test_every_problem_in_one_go() -> None:
    problems = problems_of(
        environ={"BIND_PORT": "70000", "STT_VAD_THRESHOLD": "loud", "STT_LANGUAGE": "klingon"},
        flags={"--beam-size": 0},
    )
    assert len(problems) == 4
    for words in (
        "BIND_PORT = '70000'",
        "STT_VAD_THRESHOLD = 'loud'",
        "unknown language",
        "--beam-size = '0'",
    ):
        assert any(words in problem for problem in problems), words


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("STT_PORT", "0"),
        ("STT_PORT", "http"),
        ("STT_PROFILE", "tpu"),
        ("STT_DEVICE", "rocm"),
        ("STT_COMPUTE_TYPE", "int4"),
        ("STT_TASK", "summarise"),
        ("STT_VAD_THRESHOLD", "1.1"),
        ("STT_VAD_THRESHOLD", "nan"),
        ("STT_MAX_UTTERANCE_S", "31"),
        ("STT_MAX_SESSION_S", "inf"),
        ("STT_INTERIM_SHARE", "0"),
        ("STT_MAX_SESSIONS", "-1"),
        ("STT_MAX_SESSIONS", "1.5"),
        ("STT_ALLOWED_FORMATS", "wav,exe"),
        ("STT_ALLOWED_FORMATS", ","),
        ("STT_ALLOWED_FORMATS", "[wav"),
        ("STT_VAD_ENABLED", "maybe"),
        ("STT_LOG_LEVEL", "chatty"),
        ("STT_MIN_AUDIO_LENGTH_SECONDS", "61"),
    ],
)
def test_values_out_of_bounds(name: str, text: str) -> None:
    (problem,) = problems_of(environ={name: text})
    assert problem.startswith(f"{name} = '{text}': ")


@pytest.mark.parametrize(
    "environ",
    [
        {"FINAL_HI": "13", "FINAL_CRIT": "12"},
        {"INTERIM_HI": "20", "INTERIM_CRIT": "10"},
        {"MAX_AUDIO_LENGTH_SECONDS": "1", "MIN_AUDIO_LENGTH_SECONDS": "2"},
    ],
)
def test_bounds_in_the_wrong_order(environ: dict[str, str]) -> None:
    assert "must not exceed" in problems_of(environ=environ)[0]


def test_secrets_are_never_shown() -> None:
    settings = Settings(api_key="s3cret", redis_url="redis://:s3cret@host", ticket_secret="s3cret")
    assert "s3cret" not in repr(settings)
    assert settings.secret("api_key") == "s3cret"
    assert settings.secret("hf_token") is None
    with pytest.raises(SettingsError) as caught:
        Settings.from_dict({"api_key": ["s3cret"]})
    assert "s3cret" not in str(caught.value)


def test_settings_of_other_servers_need_no_warning() -> None:
    environ = {
        "ENABLE_CACHE": "false",
        "WHISPER_BACKEND": "faster-whisper",
        "DIARIZATION_ENABLED": "true",
        "DELETE_AUDIO_IMMEDIATELY": "True",
        "DISABLE_AUDIO_LOGGING": "True",
        "ENABLE_METRICS": "true",
        "STT_DEVICE": "cpu",
    }
    assert read_settings(environ=environ)[1] == ()
    assert read_settings(environ={"WHISPER_BACKEND": "mlx-whisper", "STT_DEVICE": "mps"})[1] == ()


def test_defaults_need_no_warning() -> None:
    assert read_settings(environ={}) == (Settings(), ())
    for name, field in Settings.model_fields.items():
        known = about(field)
        assert known.meaning.endswith("."), name


def test_load_logs_the_warnings() -> None:
    with capture_logs() as logs:
        settings = load_settings(environ={"STT_PRT": "1", "STT_PORT": "9"})
    assert settings.port == 9
    assert [line["event"] for line in logs] == ["setting needs attention"]
    assert "STT_PRT" in logs[0]["detail"]
