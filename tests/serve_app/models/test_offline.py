"""With STT_OFFLINE=true nothing touches the network, and the error says what to run where there is one."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner

from fakes.whisper_folder import write_model
from serve_app.cli.app import app
from serve_app.core.errors import ModelUnavailable
from serve_app.models import MODELS, find_spec, resolve_model, resolve_or_fallback


@pytest.fixture(autouse=True)
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every attempt to reach anything; each fails as it would without a network."""
    attempts: list[str] = []

    def refuse(what: str) -> Any:
        def call(*_arguments: Any, **_options: Any) -> NoReturn:
            attempts.append(what)
            raise OSError("no network in this test")

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse(name))
    return attempts


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Any]:
    return {"cache_dir": tmp_path / "cache", "hf_home": tmp_path / "hf"}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STT_OFFLINE", "true")
    monkeypatch.setenv("STT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("STT_HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)


def test_the_block_works(touched: list[str], places: dict[str, Any]) -> None:
    """Asked online, the hub's real client does try: else the tests below would prove nothing."""
    with pytest.raises(ModelUnavailable):
        resolve_model("small", offline=False, **places)
    assert touched


@pytest.mark.parametrize(
    "name", [spec.name for spec in MODELS if not spec.packaged_files] + ["openai/whisper-small", "some/one"]
)
def test_no_name_touches_the_network(name: str, touched: list[str], places: dict[str, Any]) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        resolve_model(name, offline=True, **places)
    assert touched == []
    spec = find_spec(name)
    wanted = spec.name if spec else name
    assert f"`sotto models pull {wanted} --to ./models`" in str(caught.value)
    assert "STT_MODEL_DIR" in str(caught.value)


def test_what_is_in_the_hubs_cache_is_used(touched: list[str], places: dict[str, Any]) -> None:
    folder = places["hf_home"] / "hub" / "models--Systran--faster-whisper-small"
    snapshot = write_model(folder / "snapshots" / "abc123")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc123")
    assert resolve_model("small", offline=True, **places).path == snapshot
    assert touched == []


def test_the_command_makes_what_is_missing(tmp_path: Path, places: dict[str, Any], settings: None) -> None:
    """The folder that the advice tells of is found by the machine that gave it."""
    connected = write_model(tmp_path / "elsewhere" / "small")
    result = CliRunner().invoke(app, ["models", "pull", str(connected), "--to", str(tmp_path / "models")])
    assert result.exit_code == 0, result.stderr
    model = resolve_model("small", model_dir=tmp_path / "models", offline=True, **places)
    assert model.path == tmp_path / "models" / "small"


@pytest.mark.parametrize("command", ["pull", "verify", "warm", "info", "list"])
def test_no_command_touches_the_network(command: str, touched: list[str], settings: None) -> None:
    names = [] if command == "list" else ["small"]
    result = CliRunner().invoke(app, ["models", command, *names])
    assert result.exit_code == (0 if command in ("info", "list") else 1)
    assert touched == []
    if command in ("pull", "warm"):
        assert "sotto models pull small --to ./models" in result.stderr


@pytest.mark.models
def test_a_packaged_model_stands_in(touched: list[str], places: dict[str, Any]) -> None:
    model, warning = resolve_or_fallback(
        "large-v3", "base", lambda name: resolve_model(name, offline=True, **places)
    )
    assert model.name == "base"
    assert warning is not None
    assert warning.startswith("base stands in for large-v3.")
    assert "sotto models pull large-v3 --to" in warning
    assert touched == []
