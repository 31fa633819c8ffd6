import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serve_app.cli import serving
from serve_app.cli.app import app
from serve_app.launch import plan as plan_module
from serve_app.launch.certificates import CertificateFiles
from serve_app.launch.cluster import free_ports
from serve_app.launch.plan import ServicePlan, plan_service
from serve_app.settings import Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("STT_TLS_CERT", "STT_TLS_KEY", "STT_TLS_SELF_SIGNED", "STT_PORT", "BIND_PORT", "API_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plan_module, "num_cuda_devices", lambda: 0)


def planned(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> ServicePlan:
    """What `sotto serve ARGUMENTS` would start."""
    given: list[Mapping[str, Any]] = []

    def note_flags(flags: Mapping[str, Any], **_: object) -> int:
        given.append(flags)
        return 0

    monkeypatch.setattr(serving, "run_service", note_flags)
    answer = CliRunner().invoke(app, ["serve", *arguments])
    assert answer.exit_code == 0, answer.output
    return plan_service(given[0])


def test_without_certificate_there_is_no_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(monkeypatch).edge is None


def test_a_certificate_by_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Paths become absolute and links stay links: a renewal swaps them."""
    (tmp_path / "live.pem").symlink_to(tmp_path / "archive.pem")
    plan = planned(monkeypatch, "--tls-cert", "live.pem", "--tls-key", "key.pem", "--port", "8443")
    assert plan.edge is not None
    assert plan.edge.files == CertificateFiles(tmp_path / "live.pem", tmp_path / "key.pem")
    assert plan.config["http_options"]["port"] == 8443


def test_self_signed_by_flag_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    by_flag = planned(monkeypatch, "--tls-self-signed", "--max-session-s", "90").edge
    assert by_flag is not None
    assert (by_flag.files, by_flag.max_session_s) == (None, 90)
    monkeypatch.setenv("STT_TLS_SELF_SIGNED", "true")
    assert planned(monkeypatch).edge is not None


def test_places_that_can_be_written_are_made(tmp_path: Path) -> None:
    settings = Settings(log_file="logs/sotto.log", audit_log_dir="audit")
    assert settings.log_file == tmp_path / "logs" / "sotto.log"
    assert serving.unwritable(settings) is None
    assert (tmp_path / "logs" / "sotto.log").is_file()
    assert list((tmp_path / "audit").iterdir()) == []


@pytest.mark.parametrize("setting", ["log-file", "audit-log-dir"])
def test_a_place_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path, setting: str) -> None:
    (tmp_path / "taken").write_text("")
    answer = CliRunner().invoke(app, ["serve", f"--{setting}", "taken/place"])
    assert answer.exit_code == 2
    assert "cannot write" in answer.stderr


def test_another_programs_metrics_port_stops_the_start_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(serving, "start_service", lambda *_, **__: started.append(1))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = CliRunner().invoke(app, ["serve", "--metrics-port", str(port)])
    assert answer.exit_code == 2
    assert f"metrics_port: 127.0.0.1:{port} cannot be listened on" in answer.stderr
    assert not started


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (Settings(), ""),
        (Settings(metrics_enabled=False, metrics_port=9), None),
    ],
)
def test_where_metrics_are_said_to_be(settings: Settings, shown: str | None) -> None:
    assert serving._metrics_address(settings) == shown


def test_metrics_on_a_port_of_their_own_are_announced_there() -> None:
    (port,) = free_ports(1)
    assert serving._metrics_address(Settings(metrics_port=port)) == f"http://127.0.0.1:{port}"
