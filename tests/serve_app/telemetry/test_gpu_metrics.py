"""The cards' figures on instruments, and through the exposition."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from structlog.testing import capture_logs

from fakes.local_metrics import LocalInstruments
from fakes.nvml import GIB, FakeNvml, rtx_2060
from serve_app.capacity.machine import Gpu, read_gpus
from serve_app.telemetry.exposition import merge_expositions
from serve_app.telemetry.gpu_metrics import GpuRecorder, ReplicaOnCard, publish_gpu_metrics

CARD = {"gpu_id": "0", "gpu_uuid": "GPU-0000-fake"}
NAMED = {**CARD, "gpu_name": "NVIDIA GeForce RTX 2060"}


def recorded(replica: ReplicaOnCard, pid: int, **card: object) -> LocalInstruments:
    instruments = LocalInstruments()
    GpuRecorder(instruments, replica, pid=pid).record(read_gpus(FakeNvml([rtx_2060(**card)])))
    return instruments


def test_a_card_and_a_replica_on_it() -> None:
    replica = ReplicaOnCard("FinalAsr", "abc", 0.5)
    local = recorded(replica, 7, processes={7: 2 * GIB, 8: GIB}, memory_used_bytes=3 * GIB)
    own = {**CARD, "deployment_name": "FinalAsr", "replica_id": "abc"}
    assert local.value("stt_gpu_memory_used_bytes", NAMED) == 3 * GIB
    assert local.value("stt_gpu_memory_total_bytes", NAMED) == 6 * GIB
    assert local.value("stt_gpu_temperature_celsius", NAMED) == 41
    assert local.value("stt_gpu_power_watts", NAMED) == 35.5
    assert local.value("stt_gpu_power_limit_watts", NAMED) == 160
    assert local.value("stt_gpu_utilization_ratio", NAMED) == 0.37
    assert local.value("stt_replica_gpu_memory_used_bytes", own) == 2 * GIB
    assert local.value("stt_replica_gpu_memory_share_bytes", own) == 3 * GIB


def test_what_is_not_known_is_not_recorded() -> None:
    silent = frozenset({"nvmlDeviceGetTemperature"})
    local = recorded(ReplicaOnCard("FinalAsr", "abc"), 9, processes={7: GIB}, silent=silent)
    text = local.exposition()
    assert "stt_gpu_temperature_celsius{" not in text
    assert "stt_replica_gpu_memory_used_bytes{" not in text
    assert "stt_replica_gpu_memory_share_bytes{" not in text
    assert "stt_gpu_power_watts{" in text


def test_two_replicas_on_a_card_do_not_double_it() -> None:
    texts = [
        recorded(ReplicaOnCard("FinalAsr", name), pid, processes={1: GIB, 2: 2 * GIB}).exposition()
        for name, pid in (("a", 1), ("b", 2))
    ]
    merged = merge_expositions(texts)
    totals = [line for line in merged.splitlines() if line.startswith("stt_gpu_memory_total_bytes{")]
    held = [line for line in merged.splitlines() if line.startswith("stt_replica_gpu_memory_used_bytes{")]
    assert [float(line.rsplit(" ", 1)[1]) for line in totals] == [6 * GIB]
    assert sorted(float(line.rsplit(" ", 1)[1]) for line in held) == [GIB, 2 * GIB]


def test_more_memory_than_the_share_is_said_once_each_time() -> None:
    recorder = GpuRecorder(LocalInstruments(), ReplicaOnCard("FinalAsr", "abc", 0.5), pid=7)
    with capture_logs() as logs:
        for held in (2 * GIB, 4 * GIB, 5 * GIB, GIB, 4 * GIB):
            recorder.record(read_gpus(FakeNvml([rtx_2060(processes={7: held})])))
    assert [(entry["held_mb"], entry["share_mb"]) for entry in logs] == [(4295, 3221), (4295, 3221)]


def test_it_is_read_again_and_again_until_ended() -> None:
    gpus = read_gpus(FakeNvml([rtx_2060()]))
    reads = threading.Semaphore(0)
    answers: list[Sequence[Gpu] | Exception] = [gpus, RuntimeError(), gpus, gpus]
    failing = iter(answers)

    def read() -> Sequence[Gpu]:
        reads.release()
        answer = next(failing, gpus)
        if isinstance(answer, Exception):
            raise answer
        return answer

    local = LocalInstruments()
    end = publish_gpu_metrics(GpuRecorder(local, ReplicaOnCard("a", "b")), 0.001, read)
    for _ in range(5):  # the first, one that fails, and some more
        assert reads.acquire(timeout=60)
    end()
    assert local.value("stt_gpu_memory_total_bytes", NAMED) == 6 * GIB
    assert "gpu-metrics" not in {thread.name for thread in threading.enumerate()}


def test_no_thread_where_there_is_no_card() -> None:
    end = publish_gpu_metrics(GpuRecorder(LocalInstruments(), ReplicaOnCard("a", "b")), 0.001, lambda: ())
    assert "gpu-metrics" not in {thread.name for thread in threading.enumerate()}
    end()
