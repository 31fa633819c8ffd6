"""`GET /v1/operate`: of all replicas, for admins alone, and without a secret."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.job_office import job_office
from fakes.kept_keys import MemoryKeys, cheap_key
from fakes.local_metrics import LocalInstruments
from serve_app.access.caller import KeyLimits, Scope
from serve_app.access.keyring import Keyring
from serve_app.core.errors import StorageUnavailable
from serve_app.protocols.operate import MAX_FAILURES, MAX_KEYS, Known, operating_body
from serve_app.service.contract import DeploymentReplicas
from serve_app.telemetry.exposition import merge_expositions
from serve_app.telemetry.families import GPU_MEMORY_TOTAL, GPU_MEMORY_USED, GPU_UTILISATION
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import Guards, create_app
from serve_app.web.door import Kept

REPLICAS = [DeploymentReplicas("Ingress", "HEALTHY", (("RUNNING", 2),))]


class Cluster(FakeService):
    """A service whose figures are those of several replicas, merged as Ray's exporters are."""

    def __init__(self, num_replicas: int = 2) -> None:
        super().__init__()
        self.replicas = [LocalInstruments() for _ in range(num_replicas)]

    async def metrics_text(self) -> str:
        return merge_expositions([one.exposition() for one in self.replicas])


async def counted() -> Sequence[DeploymentReplicas]:
    return REPLICAS


def client(app, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://sotto", headers=headers)


async def test_what_all_replicas_counted_is_added_up():
    service = Cluster()
    one, other = (Metrics(local) for local in service.replicas)
    one.connections(3)
    other.connections(4)
    for replica in (one, other, other):
        replica.session_started(resumed=replica is one)
        replica.session_ended("completed")
        replica.refused("session", "max_sessions")
        replica.job_processed("final", "error")
        replica.queue_depth("final", 5)
    one.backpressure(1, 2)
    other.backpressure(2, 4)
    card = {"gpu_id": "0", "gpu_uuid": "GPU-1", "gpu_name": "H200"}
    for local in service.replicas:
        local.instrument(GPU_MEMORY_TOTAL).record(8e9, card)
        local.instrument(GPU_MEMORY_USED).record(2e9, card)
        local.instrument(GPU_UTILISATION).record(0.25, card)
    async with client(create_app(service, FakeSettings(), replicas=counted)) as http:
        body = (await http.get("/v1/operate")).json()
    assert body["ready"]
    assert [model["name"] for model in body["models"]] == ["base", "tiny.en"]
    assert body["replicas"] == [{"deployment": "Ingress", "status": "HEALTHY", "states": {"RUNNING": 2}}]
    assert body["keys"] is None
    figures = body["figures"]
    assert figures["sessions"] == {
        "connections": 7,
        "started": 3,
        "resumed": 1,
        "ended": {"completed": 3},
        "max_per_replica": 8,
    }
    work = {"finals": 10, "interims": 0, "uploads": 0, "jobs_waiting": None}
    assert figures["work"] == {**work, "level": "critical", "rung": "no_interims"}
    assert figures["refused"] == [{"what": "session", "reason": "max_sessions", "count": 3}]
    assert figures["failed_decodes"] == {"final": 3}
    assert figures["gpus"] == [
        {
            "uuid": "GPU-1",
            "name": "H200",
            "memory_used_bytes": 2_000_000_000,
            "memory_total_bytes": 8_000_000_000,
            "utilisation": 0.25,
            "temperature_celsius": None,
            "power_watts": None,
        }
    ]


async def test_errors_of_every_replica_are_there_with_their_time():
    service = Cluster()
    apps = [create_app(service, FakeSettings(), Metrics(local)) for local in service.replicas]
    for app in apps:
        async with client(app) as http:
            assert (await http.post("/transcribe", content=b"no audio")).status_code == 400
            await http.get("/nothing/here")
            await http.get("/health")
    async with client(apps[0]) as http:
        failures = (await http.get("/v1/operate")).json()["figures"]["failures"]
    shown = {(one["door"], one["status"], one["reason"]): one["count"] for one in failures}
    assert shown == {("/transcribe", "400", "INVALID_MESSAGE"): 2, ("unknown", "404", "INVALID_MESSAGE"): 2}
    moments = [one["last_at"] for one in failures]
    assert moments == sorted(moments, reverse=True)


async def test_waiting_jobs_of_all_keys_are_counted(tmp_path: Path):
    async with job_office(tmp_path) as office:
        audio = wav(chirp(1.0, 16_000), 16_000)
        for key in ("kim", "lee"):
            headers = {"x-test-key": key, "content-type": "audio/wav"}
            assert (await office.client.post("/api/jobs", content=audio, headers=headers)).status_code == 202
        answer = await office.client.get("/v1/operate")
    assert answer.json()["figures"]["work"]["jobs_waiting"] == 2


@pytest.mark.parametrize("scope", [None, *Scope])
async def test_where_there_are_keys_it_is_for_admins_and_no_secret_is_in_it(scope: Scope | None):
    (text, key), (_, other) = cheap_key(scope or Scope.LIVE, name="desk"), cheap_key(Scope.LIVE, name="shop")
    plain = "the-operators-own"
    keys = Keyring(MemoryKeys(key, other), plain=plain)
    headers = {} if scope is None else {"authorization": f"Bearer {text}"}
    async with client(create_app(Cluster(), FakeSettings(), guards=Guards(keys=keys)), **headers) as http:
        assert (await http.get("/operate")).status_code == 200
        answer = await http.get("/v1/operate")
    if scope is not Scope.ADMIN:
        assert answer.status_code == (401 if scope is None else 403)
        return
    shown = answer.json()["keys"]
    assert (shown["total"], shown["plain"]) == (2, True)
    by_name = {one["name"]: one for one in shown["newest"]}
    assert by_name["desk"]["scopes"] == ["admin"]
    assert by_name["shop"]["state"] == "active"
    secret = text.split("_")[2]
    for hidden in (secret, plain, key.digest.hex(), "digest", "salt"):
        assert hidden not in answer.text


async def test_lists_are_bounded():
    instruments = LocalInstruments()
    metrics = Metrics(instruments)
    for count in range(MAX_FAILURES + 5):
        metrics.failed("/transcribe", "400", f"CODE_{count}", 1e9 + count)
    limits = KeyLimits(sessions=3, audio_minutes_per_day=1.5)
    keys = [cheap_key(name=f"k{count}", limits=limits)[1] for count in range(MAX_KEYS + 5)]
    text = merge_expositions([instruments.exposition()])
    status = FakeService().status()
    body = operating_body(Known(status, "1", text, None, None, (keys, False)), 2e9)
    assert body.figures is not None
    assert len(body.figures.failures) == MAX_FAILURES
    assert body.figures.failures[0].reason == f"CODE_{MAX_FAILURES + 4}"
    assert body.keys is not None
    assert (body.keys.total, len(body.keys.newest)) == (MAX_KEYS + 5, MAX_KEYS)
    assert body.keys.newest[0].limits == {"sessions": 3, "audio_minutes_per_day": 1.5}


async def test_what_cannot_be_asked_is_left_out():
    async def lost() -> Sequence[DeploymentReplicas]:
        raise StorageUnavailable("Serve's controller does not answer")

    app = create_app(Cluster(), FakeSettings(metrics_enabled=False), kept=Kept(), replicas=lost)
    async with client(app) as http:
        body = (await http.get("/v1/operate")).json()
    assert body["figures"] is None
    assert "replicas" not in body
    assert body["models"]
