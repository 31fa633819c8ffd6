"""The management library as records, on cards that are pretended."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes.nvml import GIB, FakeCard, FakeNvml, h200, rtx_2060, rtx_3060
from serve_app.capacity.machine import available_cores, describe_gpu, read_gpus, visible_gpus


def test_two_cards_as_records() -> None:
    library = FakeNvml([rtx_2060(processes={7: 5, 8: None}), rtx_3060()])
    first, second = read_gpus(library)
    assert (first.index, first.name, first.uuid) == (0, "NVIDIA GeForce RTX 2060", "GPU-0000-fake")
    assert first.memory_total_bytes == 6 * GIB
    assert first.memory_free_bytes == 6 * GIB - first.memory_used_bytes
    assert (first.utilisation, first.temperature_celsius) == (0.37, 41.0)
    assert (first.power_watts, first.power_limit_watts) == (35.5, 160.0)
    assert (first.compute_capability, second.compute_capability) == ((7, 5), (8, 6))
    assert (first.memory_of(7), first.memory_of(8), first.memory_of(9)) == (5, None, None)
    assert library.num_open == 0


OPTIONAL = {
    "nvmlDeviceGetUtilizationRates": "utilisation",
    "nvmlDeviceGetTemperature": "temperature_celsius",
    "nvmlDeviceGetPowerUsage": "power_watts",
    "nvmlDeviceGetEnforcedPowerLimit": "power_limit_watts",
    "nvmlDeviceGetCudaComputeCapability": "compute_capability",
    "nvmlDeviceGetComputeRunningProcesses": "processes",
}


@pytest.mark.parametrize(("call", "attribute"), OPTIONAL.items())
def test_what_a_card_does_not_report_is_none(call: str, attribute: str) -> None:
    (whole,) = read_gpus(FakeNvml([h200(processes={1: 1})]))
    (gpu,) = read_gpus(FakeNvml([h200(processes={1: 1}, silent=frozenset({call}))]))
    assert getattr(whole, attribute)
    assert not getattr(gpu, attribute)
    assert gpu.memory_total_bytes == 141 * GIB


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUUID"]
)
def test_a_broken_card_does_not_hide_the_others(call: str) -> None:
    library = FakeNvml([rtx_2060(silent=frozenset({call})), rtx_3060()])
    assert [gpu.index for gpu in read_gpus(library)] == [1]
    assert library.num_open == 0


def test_without_a_driver_there_are_no_cards() -> None:
    assert read_gpus(FakeNvml([rtx_2060()], has_driver=False)) == ()


def test_without_the_bindings_there_are_no_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_gpus() == ()


def test_the_bindings_are_used_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = FakeNvml([rtx_3060()])
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert [gpu.name for gpu in read_gpus()] == ["NVIDIA GeForce RTX 3060"]


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        ("0,1", [0, 1]),
        ("1,0", [1, 0]),
        ("1", [1]),
        ("GPU-0001-fake", [1]),
        ("GPU-0001", [1]),
        ("", []),
        ("0,7,1", [0]),
        (" 1 , 0 ", [1, 0]),
    ],
)
def test_only_the_visible_ones_in_cudas_order(
    monkeypatch: pytest.MonkeyPatch, visible: str, indices: list[int]
) -> None:
    gpus = read_gpus(FakeNvml([rtx_2060(), rtx_3060()]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.index for gpu in visible_gpus(gpus)] == indices


def test_all_are_visible_where_nothing_hides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(visible_gpus(read_gpus(FakeNvml([rtx_2060(), rtx_3060()])))) == 2


def test_a_card_whose_figures_are_strange() -> None:
    full = FakeCard("x", 4 * GIB, (6, 1), memory_used_bytes=5 * GIB)
    (gpu,) = read_gpus(FakeNvml([full]))
    assert gpu.memory_free_bytes == 0


def test_a_card_in_one_line() -> None:
    (whole,) = read_gpus(FakeNvml([rtx_2060(processes={7: 2 * GIB, 8: None})]))
    assert describe_gpu(whole) == (
        "NVIDIA GeForce RTX 2060, 0.4 of 6.0 GiB used, 37 % busy, 41 °C, 36 of 160 W, "
        "compute capability 7.5, pid 7: 2.0 GiB"
    )
    (silent,) = read_gpus(FakeNvml([rtx_2060(silent=frozenset(OPTIONAL))]))
    assert describe_gpu(silent) == "NVIDIA GeForce RTX 2060, 0.4 of 6.0 GiB used"


MANY = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", MANY),
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("150000 100000\n", min(2, MANY)),
        ("6400000 100000\n", MANY),
        ("0 0\n", MANY),
        ("nonsense\n", MANY),
    ],
)
def test_a_quota_of_control_groups_version_2(tmp_path: Path, content: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert available_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota_us", "cores"), [("-1", MANY), ("100000", 1), ("6400000", MANY), ("x", MANY)])
def test_a_quota_of_version_1(tmp_path: Path, quota_us: str, cores: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota_us)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cores(tmp_path) == cores


def test_without_control_groups_it_is_what_the_process_is_bound_to(tmp_path: Path) -> None:
    assert available_cores(tmp_path / "nothing") == MANY
