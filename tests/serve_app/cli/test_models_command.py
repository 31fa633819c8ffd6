import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fakes.huggingface_folder import write_huggingface
from fakes.whisper_folder import write_model
from serve_app.cli import models
from serve_app.cli.app import app
from serve_app.cli.models import load_and_warm
from serve_app.core.jobs import ModelInfo
from serve_app.models import MODELS, resolve_model
from serve_app.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that has two models of its own and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STT_OFFLINE", "true")
    monkeypatch.setenv("STT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("STT_HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("STT_MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("STT_FINAL_MODEL", "clinic-de")
    write_model(tmp_path / "models" / "clinic-de")
    write_huggingface(tmp_path / "models" / "openai--whisper-small")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["models", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_list_is_a_line_a_model() -> None:
    status, out, _ = run("list")
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert set(lines) == {"model", "clinic-de", *(spec.name for spec in MODELS)}
    assert lines["clinic-de"].endswith("finals, recordings")
    assert "folder" in lines["small"]
    assert "~76 MB" in lines["tiny"]
    assert "42 / 76 / 151" in lines["tiny"]


def test_list_as_json() -> None:
    status, out, _ = run("list", "--json")
    assert status == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["small"]["engines"] == ["onnx", "torch", "mlx"]
    assert rows["clinic-de"]["used_for"] == ["finals", "recordings"]
    assert rows["large-v3"]["source"] is None
    assert rows["large-v3"]["min_vram_gb"] == 4.5


@pytest.mark.parametrize("name", ["small", "openai/whisper-small", "Systran/faster-whisper-small", "SMALL"])
def test_info_by_every_name(name: str, tmp_path: Path) -> None:
    status, out, _ = run("info", name, "--json")
    assert status == 0
    facts = json.loads(out)
    assert facts["name"] == "small"
    assert facts["path"] == str(tmp_path / "models" / "openai--whisper-small")
    assert facts["format"] == "huggingface"
    assert facts["licence"] == "MIT"


def test_info_is_a_page() -> None:
    status, out, _ = run("info", "large-v3")
    assert status == 0
    facts = dict(line.split(":", 1) for line in out.splitlines())
    assert facts["here"].strip() == "no"
    assert facts["mels"].strip() == "128"
    assert "100: en zh" in facts["languages"]
    assert "3087 MB of weights (computed)" in facts["memory float16"]
    assert "3000-4000 MB of VRAM" in facts["published"]


def test_info_of_a_folder_and_its_sums(tmp_path: Path) -> None:
    run("pull", "clinic-de", "--to", str(tmp_path / "out"))
    folder = tmp_path / "out" / "clinic-de"
    status, out, _ = run("info", str(folder), "--verify")
    assert status == 0
    assert out.count("(as expected)") == 4
    (folder / "model.bin").write_bytes(b"cut")
    status, out, _ = run("info", str(folder), "--verify")
    assert status == 1
    assert "expected " in out
    assert "problem:" in out


@pytest.mark.parametrize("command", ["info", "pull", "verify", "warm"])
def test_unknown_names_are_answered_with_near_ones(command: str) -> None:
    status, _, errors = run(command, "smal")
    assert status == 1
    assert "Did you mean small" in errors
    assert "Known names: tiny, tiny.en" in errors


def test_pull_to_a_folder_and_verify_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, _ = run("pull", "small", "clinic-de", "--to", str(tmp_path / "stick"))
    assert status == 0
    assert "set STT_MODEL_DIR to it" in out
    monkeypatch.setenv("STT_MODEL_DIR", str(tmp_path / "stick"))
    status, out, _ = run("verify", "small", "clinic-de")
    assert status == 0
    assert out.count("checksums match") == 2
    (tmp_path / "stick" / "small" / "tokenizer.json").write_text('{"model": {}}')
    status, out, errors = run("verify", "small", "clinic-de")
    assert status == 1
    assert "tokenizer.json does not match its checksum" in errors
    assert out.count("checksums match") == 1


def test_without_names_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STT_INTERIM_MODEL", "small")
    status, out, _ = run("verify")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["small", "clinic-de"]


def test_warm_loads_as_the_service_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STT_DEVICE", "cpu")
    calls: list[tuple[Any, ...]] = []

    def load(name: str, path: Path, settings: Settings) -> ModelInfo:
        calls.append((name, path, settings.device, settings.compute_type, settings.engine))
        return ModelInfo(name, "final", "ctranslate2", "cpu", "int8", True, str(path))

    monkeypatch.setattr(models, "load_and_warm", load)
    status, out, _ = run("warm", "clinic-de")
    assert status == 0
    assert calls == [("clinic-de", tmp_path / "models" / "clinic-de", "cpu", "auto", "auto")]
    assert "loaded with ctranslate2 on cpu, int8" in out


@pytest.mark.models
def test_warm_with_the_real_engine() -> None:
    model = resolve_model("tiny.en", offline=True)
    flags = {"device": "cpu", "compute_type": "int8", "engine": "ctranslate2"}
    info = load_and_warm(model.name, model.path, load_settings(flags=flags, environ={}))
    assert (info.name, info.engine, info.device) == ("tiny.en", "ctranslate2", "cpu")
    assert info.path == str(model.path)
    assert info.languages == ("en",)


def test_wrong_settings_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STT_DEVICE", "toaster")
    for command in (["list"], ["info", "small"], ["verify"], ["pull"], ["warm"]):
        status, _, errors = run(*command)
        assert status == 2
        assert "device" in errors.lower()
