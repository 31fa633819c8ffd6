"""A real Prometheus scrapes `/metrics`, evaluates the rules, and answers every query of the dashboards."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
import yaml

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from k8s.check.monitoring_rules import GRAFANA_VARIABLES
from k8s.dashboards import DASHBOARDS, as_json
from serve_app.telemetry.exposition import merge_expositions
from serve_app.telemetry.families import FAMILIES, Kind
from serve_app.web.app import create_app

RULES = Path(__file__).parents[2] / "deploy" / "compose" / "prometheus" / "rules" / "sotto.yml"
PROMETHEUS = shutil.which("prometheus") or ""
START_S = 60

pytestmark = pytest.mark.skipif(not PROMETHEUS, reason="prometheus is not installed")


class Counting(FakeService):
    """A service whose `/metrics` has something in each family, as three replicas would report it."""

    async def metrics_text(self) -> str:
        local = LocalInstruments()
        for family in FAMILIES:
            labels = {label: f"{label} of one" for label in family.labels}
            local.instrument(family).record(2.0, labels)
        return merge_expositions([local.exposition()] * 3)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def prometheus(folder, target):
    """The API of a Prometheus that scrapes `target` (host and port) every second."""
    config = folder / "prometheus.yml"
    config.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(RULES)],
                "scrape_configs": [{"job_name": "sotto", "static_configs": [{"targets": [target]}]}],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", trust_env=False, timeout=30) as api:
            yield api
    finally:
        process.terminate()
        process.wait(30)


def asked(api, path, **parameters):
    answer = api.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def until(what, is_there):
    """Waits until `is_there` is true; a server that has not begun to listen is not there."""
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(httpx.TransportError, AssertionError):
            if is_there():
                return
        time.sleep(0.2)
    pytest.fail(f"{what}: not within {START_S} s")


def test_a_real_prometheus_reads_everything(tmp_path):
    app = create_app(Counting(), FakeSettings())
    with running_app(app) as port, prometheus(tmp_path, f"127.0.0.1:{port}") as api:
        until("a scrape", lambda: asked(api, "query", query='up{job="sotto"} == 1')["result"])
        until("rules", lambda: {"unknown"}.isdisjoint(rule["health"] for rule in rules(api)))
        assert {rule["name"]: rule.get("lastError") for rule in rules(api) if rule["health"] != "ok"} == {}

        known = asked(api, "metadata")
        for family in FAMILIES:
            (told,) = known[family.name]
            assert told["type"] == family.kind.value
            assert told["help"] == family.help
            if family.kind is Kind.COUNTER:
                (series,) = asked(api, "query", query=family.name)["result"]
                assert float(series["value"][1]) == 6.0, family.name

        for dashboard in DASHBOARDS:
            for query in queries_of(as_json(dashboard)):
                asked(api, "query", query=query)


def rules(api):
    return [rule for group in asked(api, "rules")["groups"] for rule in group["rules"]]


def queries_of(dashboard):
    text = json.dumps(dashboard)
    for variable, value in GRAFANA_VARIABLES.items():
        text = text.replace(variable, value)
    for panel in json.loads(text)["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
