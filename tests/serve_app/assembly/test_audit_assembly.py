"""The audit log of a service: what its lines say, in strict privacy too, and what is erased on request."""

from __future__ import annotations

import httpx
import pytest
from structlog.testing import capture_logs

from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.opened_audit import opened_audit
from serve_app.assembly.audit import open_audit
from serve_app.audit.verify import read_lines, verify
from serve_app.core.erasure import Erasure
from serve_app.core.sealing import Pseudonyms
from serve_app.settings import Settings
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.web.app import create_app
from serve_app.web.door import Kept

KEY = b"audit key"
RECORD = {
    "request_id": "r",
    "session_id": "jane-doe",
    "key_id": "k1",
    "key_name": "ward 3",
    "address": "10.0.0.9",
    "method": "WS",
    "door": "/ws/stt",
    "close_code": 1000,
    "reason": "completed",
    "duration_s": 2.5,
    "audio_s": 2.0,
    "num_finals": 1,
    "num_chars": 12,
}


def settings_of(folder, **more):
    return Settings(audit_log_dir=folder, audit_key=KEY.decode(), **more)


@pytest.fixture(params=["standard", "strict"])
def opened(request, tmp_path):
    keeper, eraser = opened_audit(settings_of(tmp_path, privacy=request.param), no_metrics())
    yield request.param, keeper, eraser
    keeper.close()


def test_no_folder_no_log():
    assert open_audit(Settings(), no_metrics()) is None


def test_retention_without_a_log_is_said():
    with capture_logs() as lines:
        open_audit(Settings(audit_retention_days=3), no_metrics())
    assert "no effect" in lines[0]["event"]


async def test_a_line_says_who_when_how_long_and_with_what_outcome(opened, tmp_path):
    privacy, keeper, _ = opened
    keeper(RECORD)
    keeper.close()
    (line,) = [line for _, line in read_lines(tmp_path, KEY) if line.kind == "request"]
    who = {name: RECORD[name] for name in ("request_id", "session_id", "key_id", "key_name", "address")}
    if privacy == "strict":
        assert line.who["session_id"].startswith("p-")
        assert "jane" not in "".join(path.read_text() for path in tmp_path.iterdir() if path.is_file())
        who |= {name: line.who[name] for name in ("request_id", "session_id")}
    assert line.who == who
    assert {name: value for name, value in RECORD.items() if name not in who}.items() <= line.fields.items()


async def test_erasing_by_session_and_by_key(opened, tmp_path):
    _, keeper, eraser = opened
    keeper(RECORD)
    keeper(RECORD | {"session_id": "john", "key_id": "k2"})
    keeper(RECORD | {"session_id": "jim", "key_id": "k3"})
    assert keeper.audit.flush()
    assert await eraser.erase(Erasure(session_id="jane-doe")) == 1
    assert await eraser.erase(Erasure(key_id="k2")) == 1
    assert await eraser.erase(Erasure(key_id="k2")) == 0
    assert await eraser.erase(Erasure(clip_id="c")) == 0
    keeper.close()
    report = verify(tmp_path, KEY)
    assert (report.problems, report.notes, report.num_erased) == ([], [], 2)
    left = [line.who for _, line in read_lines(tmp_path, KEY) if line.kind == "request" and line.who]
    assert [who["key_id"] for who in left] == ["k3"]


async def test_an_erasure_that_cannot_be_written_down_erases_nothing(tmp_path):
    keeper, eraser = opened_audit(settings_of(tmp_path), no_metrics())
    keeper(RECORD)
    assert keeper.audit.flush()
    keeper.close()  # no line of its can be written any more
    with pytest.raises(OSError, match="cannot be written"):
        await eraser.erase(Erasure(key_id="k1"))
    assert [line.who["key_id"] for _, line in read_lines(tmp_path, KEY) if line.who] == ["k1"]


async def test_a_log_that_cannot_be_written_is_loud_and_stops_nothing(tmp_path):
    folder = tmp_path / "audit"
    folder.write_text("in the way")
    counted = LocalInstruments()
    with capture_logs() as lines:
        keeper, eraser = opened_audit(settings_of(folder), Metrics(counted))
        app = create_app(FakeService(), FakeSettings(), kept=Kept(keeper=keeper, erasers=(eraser,)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
            assert (await client.get("/v1/models")).status_code == 200
            keeper.audit.flush()
            status = (await client.get("/health/status")).json()
            assert status["audit_log"] == "failing"
            folder.unlink()
            assert keeper.audit.flush()
            status = (await client.get("/health/status")).json()
            assert status["audit_log"] == "writing"
        keeper.close()
    assert [line["log_level"] for line in lines if "cannot be written" in line["event"]] == ["error"]
    assert (counted.value("stt_audit_write_failures_total") or 0) >= 1
    doors = [line.fields["door"] for _, line in read_lines(folder, KEY) if line.kind == "request"]
    assert doors == ["/v1/models"]


def test_a_pseudonym_is_stable_and_needs_the_key():
    first = Pseudonyms(b"a")("jane")
    assert first == Pseudonyms(b"a")("jane") == Pseudonyms(b"a")(first)
    assert first != Pseudonyms(b"b")("jane")
