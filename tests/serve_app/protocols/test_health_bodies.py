import json
from dataclasses import replace
from pathlib import Path

from fakes.fake_service import FakeService
from fakes.on_the_wire import written
from serve_app.capacity.ladder import Rung
from serve_app.protocols import health
from serve_app.protocols.health import Live, ServiceInfo
from serve_app.service.contract import ServiceStatus
from serve_app.session.backpressure import InterimLoad

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "health.json").read_text())
INFO = ServiceInfo(version="0.1.0", language="auto", max_audio_length_s=30.0, endpoints=("GET /",))
root_body, health_body = written(health.root_body), written(health.health_body)
ready_body, startup_body, status_body = map(
    written, (health.ready_body, health.startup_body, health.status_body)
)


def status(ready=True, active=2):
    service = FakeService(ready=ready, max_sessions=100)
    service.live = dict.fromkeys(map(str, range(active)))
    return service.status()


def test_the_bodies_are_the_golden_ones():
    assert root_body(status(), INFO) == GOLDEN["root"]
    assert health_body(status(), INFO) == GOLDEN["health"]
    assert ready_body(status()) == GOLDEN["ready"]
    assert written(Live)() == GOLDEN["live"]
    assert startup_body(True) == GOLDEN["startup"]
    assert status_body(status()) == GOLDEN["status"]


def test_before_the_models_are_there():
    before = status(ready=False)
    assert health_body(before, INFO)["status"] == "unhealthy"
    assert ready_body(before) == {"status": "not_ready", "ready": False}
    assert startup_body(False) == {"status": "starting", "started": False}
    body = status_body(before)
    assert body["status"] == "not_ready"
    assert body["model"] == {"model_size": None, "device": None, "compute_type": None, "ready": False}
    assert root_body(before, INFO)["status"] == "online"


def test_load_is_active_over_estimated_maximum_and_nothing_when_that_is_unknown():
    assert status_body(status(active=2))["capacity"]["current_load_percent"] == 66.7
    unknown = ServiceStatus(ready=True, accepting=True, active_sessions=5)
    assert status_body(unknown)["capacity"]["current_load_percent"] == 0.0


def test_the_operators_page_has_queues_workers_backpressure_and_config():
    info = replace(INFO, partial_interval_ms=300, max_partial_window_s=8.0)
    loaded = replace(status(), interims=InterimLoad("critical", 2.0, 0.5, True, Rung.NO_INTERIMS, 412.34))
    body = written(health.operator_status_body)(loaded, info)
    assert body["queues"].keys() == {"final", "interim", "max_final", "total_requests", "rejected_requests"}
    assert body["workers"]["final"].keys() == {"model", "engine", "device", "compute_type", "avg_ms"}
    assert body["backpressure"] == {
        "level": "critical",
        "rung": "no_interims",
        "estimated_ms": 412.3,
        "interim_paused": True,
        "cooldown_ms": 600,
        "tail_s": 4.0,
    }
    assert body["config"]["max_sessions"] == 100
    assert body["config"]["partial_interval_ms"] == 300
    assert body["connections"] == 2
    before = written(health.operator_status_body)(status(ready=False), info)
    assert (before["status"], before["workers"]) == ("not_ready", {})
