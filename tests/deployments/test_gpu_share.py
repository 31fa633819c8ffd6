"""What a replica learns from Ray of its share of a card."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from deployments import gpu_share
from fakes.nvml import FakeNvml, rtx_2060
from serve_app.capacity.machine import read_gpus
from serve_app.settings import Settings
from serve_app.telemetry.gpu_metrics import ReplicaOnCard


class FakeRay:
    def __init__(self, resources: dict[str, float], *, is_actor: bool = True, running: bool = True) -> None:
        self._context = SimpleNamespace(
            get_actor_id=lambda: "abc" if is_actor else None, get_assigned_resources=lambda: resources
        )
        self._running = running

    def is_initialized(self) -> bool:
        return self._running

    def get_runtime_context(self) -> Any:
        return self._context


@pytest.mark.parametrize(
    ("ray", "fraction"),
    [
        (FakeRay({"CPU": 0.5, "GPU": 0.35}), 0.35),
        (FakeRay({"CPU": 0.5}), None),
        (FakeRay({"GPU": 0.0}), None),
        (FakeRay({"GPU": 0.35}, is_actor=False), None),
        (FakeRay({"GPU": 0.35}, running=False), None),
    ],
)
def test_the_share_is_the_actors(
    monkeypatch: pytest.MonkeyPatch, ray: FakeRay, fraction: float | None
) -> None:
    monkeypatch.setattr(gpu_share, "ray", ray)
    assert gpu_share.assigned_gpu_fraction() == fraction


def test_a_replica_on_a_card_publishes_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[object] = []

    def recorder(factory: object, replica: ReplicaOnCard) -> ReplicaOnCard:
        return replica

    monkeypatch.setattr(gpu_share, "ray", FakeRay({"GPU": 0.5}))
    monkeypatch.setattr(gpu_share, "read_gpus", lambda: read_gpus(FakeNvml([rtx_2060()])))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    context = SimpleNamespace(deployment="FinalAsr", replica_tag="xyz")
    monkeypatch.setattr(gpu_share.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(gpu_share, "GpuRecorder", recorder)
    monkeypatch.setattr(gpu_share, "publish_gpu_metrics", published.append)
    gpu_share.publish_own_gpu_metrics(Settings())
    assert published == [ReplicaOnCard("FinalAsr", "xyz", 0.5)]


@pytest.mark.parametrize("ray", [FakeRay({}), FakeRay({"GPU": 0.5})])
def test_nothing_is_published_without_a_card(monkeypatch: pytest.MonkeyPatch, ray: FakeRay) -> None:
    """Neither where Ray gave none, nor where Ray only pretends to have one."""
    monkeypatch.setattr(gpu_share, "ray", ray)
    monkeypatch.setattr(gpu_share, "read_gpus", lambda: ())
    monkeypatch.setattr(gpu_share, "publish_gpu_metrics", lambda recorder: pytest.fail("published"))
    gpu_share.publish_own_gpu_metrics(Settings())
