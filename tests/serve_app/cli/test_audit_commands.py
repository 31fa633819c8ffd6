"""`sotto audit` and `sotto privacy delete`: what they print and how they end."""

from __future__ import annotations

import csv
import io
import json

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from fakes.opened_audit import opened_audit
from serve_app.audit.folder import segments
from serve_app.cli.app import app
from serve_app.settings import Settings
from serve_app.telemetry.metrics import no_metrics
from serve_app.web.app import create_app
from serve_app.web.door import Kept

KEY = "audit key"
RECORDS = [
    {"session_id": "s-1", "key_id": "k1", "key_name": "=cmd()", "door": "/ws/stt", "close_code": 1000},
    {"session_id": "s-2", "key_id": "k2", "door": "/ws/stt", "close_code": 1000, "audio_s": 2.0},
    {"key_id": "k1", "address": "10.0.0.1", "door": "/transcribe", "status": 200},
]


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STT_AUDIT_LOG_DIR", str(tmp_path / "audit"))
    monkeypatch.setenv("STT_AUDIT_KEY", KEY)


@pytest.fixture
def folder(tmp_path):
    keeper, _ = opened_audit(Settings(audit_log_dir=tmp_path / "audit", audit_key=KEY), no_metrics())
    for record in RECORDS:
        keeper({"duration_s": 1.0, "method": "POST"} | record)
    keeper.close()
    return tmp_path / "audit"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_a_whole_log(folder):
    code, out, err = run("audit", "verify")
    assert (code, err) == (0, "")
    assert "as it was written; 5 lines in 1 chains, with a key" in out


def test_a_changed_log(folder):
    (segment,) = segments(folder)
    segment.path.write_text(segment.path.read_text().replace("/transcribe", "/translated"))
    code, out, err = run("audit", "verify", "--dir", str(folder))
    assert code == 1
    assert f"{segment.path.name}, line 4: does not have the sum" in err
    assert "NOT as it was written" in err


def test_without_the_key_a_keyed_log_cannot_be_vouched_for(folder, monkeypatch):
    monkeypatch.delenv("STT_AUDIT_KEY")
    code, _, err = run("audit", "verify")
    assert code == 1
    assert "another key" in err


def test_heads_kept_elsewhere(folder, tmp_path):
    code, out, _ = run("audit", "heads")
    assert code == 0
    kept = tmp_path / "kept"
    kept.write_text(out)
    assert run("audit", "verify", "--heads", str(kept))[0] == 0
    for path in folder.iterdir():
        path.unlink()
    assert run("audit", "verify")[0] == 0
    assert run("audit", "verify", "--heads", str(kept))[0] == 1
    kept.write_text("{}")
    assert run("audit", "verify", "--heads", str(kept))[0] == 2


@pytest.mark.parametrize("command", ["verify", "heads", "show", "export"])
def test_no_folder_is_a_matter_of_usage(command, monkeypatch, tmp_path):
    assert run("audit", command)[0] == 2
    monkeypatch.delenv("STT_AUDIT_LOG_DIR")
    assert run("audit", command)[0] == 2


def test_lines_for_a_person(folder):
    code, out, _ = run("audit", "show", "--key", "k2")
    assert code == 0
    assert out.count("\n") == 1
    assert "/ws/stt" in out
    assert "s-2" in out
    assert run("audit", "show", "--until", "2020-01-01")[1] == ""
    assert run("audit", "show", "--since", "yesterday")[0] == 2


def test_lines_for_a_program(folder):
    _, out, _ = run("audit", "export")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line.get("session_id") for line in lines] == ["s-1", "s-2", None]
    assert not {"prev", "who_sum", "hash"} & {name for line in lines for name in line}
    _, out, _ = run("audit", "export", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["key_id"] for row in rows] == ["k1", "k2", "k1"]
    assert rows[0]["key_name"] == "'=cmd()"
    assert run("audit", "export", "--format", "xml")[0] == 2


def test_deletion_on_request(folder, tmp_path):
    settings = Settings(audit_log_dir=folder, audit_key=KEY)
    keeper, eraser = opened_audit(settings, no_metrics())
    door = create_app(FakeService(), FakeSettings(), kept=Kept(keeper=keeper, erasers=(eraser,)))
    with capture_logs(), running_app(door) as port:
        url = f"http://127.0.0.1:{port}"
        assert run("privacy", "delete", "--key", "k1", "--url", url)[:2] == (
            0,
            "nothing is kept here that could be erased\n",
        )
        assert run("privacy", "delete", "--key", "k1", "--audit", "--url", url)[:2] == (
            0,
            "audit: 2 erased\n",
        )
    keeper.close()
    _, out, _ = run("audit", "show", "--key", "k1")
    assert out == ""
    assert "in 2 of them who it was is erased" in run("audit", "verify")[1]
    assert "(erased)" in run("audit", "show")[1]


def test_deletion_of_what_is_not_named():
    assert run("privacy", "delete")[0] == 2
    assert run("privacy", "delete", "--key", "a", "--session", "b")[0] == 2
    code, _, err = run("privacy", "delete", "--key", "a", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "does not answer" in err


def test_a_session_is_found_by_its_id_where_the_log_has_pseudonyms(tmp_path):
    settings = Settings(audit_log_dir=tmp_path / "audit", audit_key=KEY, privacy="strict")
    keeper, _ = opened_audit(settings, no_metrics())
    for record in RECORDS:
        keeper(record)
    keeper.close()
    _, out, _ = run("audit", "export", "--session", "s-2")
    (line,) = [json.loads(line) for line in out.splitlines()]
    assert line["key_id"] == "k2"
    assert line["session_id"].startswith("p-")
