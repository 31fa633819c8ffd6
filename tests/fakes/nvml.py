"""A management library without a driver: cards by their size and generation, with the real one's calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 1024**3


class FakeNvmlError(Exception):
    """What this library raises, as pynvml's NVMLError."""


@dataclass(frozen=True)
class FakeCard:
    """`processes`: pid to bytes, None where the driver does not say. `silent`: calls that it refuses."""

    name: str
    memory_total_bytes: int
    compute_capability: tuple[int, int]
    memory_used_bytes: int = 400 * 1024**2
    temperature_celsius: int = 41
    power_milliwatts: int = 35_500
    processes: Mapping[int, int | None] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()


def rtx_2060(**changes: Any) -> FakeCard:
    """6 GB, Turing: no bfloat16."""
    return FakeCard("NVIDIA GeForce RTX 2060", 6 * GIB, (7, 5), **changes)


def rtx_3060(**changes: Any) -> FakeCard:
    """12 GB, Ampere."""
    return FakeCard("NVIDIA GeForce RTX 3060", 12 * GIB, (8, 6), **changes)


def turing_12gb(**changes: Any) -> FakeCard:
    """12 GB, Turing: no bfloat16."""
    return FakeCard("NVIDIA GeForce RTX 2060 12GB", 12 * GIB, (7, 5), **changes)


def h200(**changes: Any) -> FakeCard:
    return FakeCard("NVIDIA H200", 141 * GIB, (9, 0), **changes)


class FakeNvml:
    """`has_driver` False: init fails as it does without one."""

    NVMLError = FakeNvmlError

    def __init__(self, cards: Sequence[FakeCard] = (), *, has_driver: bool = True) -> None:
        self._cards = list(cards)
        self._has_driver = has_driver
        self.num_open = 0

    def nvmlInit(self) -> None:
        if not self._has_driver:
            raise FakeNvmlError("Driver Not Loaded")
        self.num_open += 1

    def nvmlShutdown(self) -> None:
        self.num_open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self._cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return self._said("nvmlDeviceGetHandleByIndex", index, lambda card: index)

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return self._said("nvmlDeviceGetUUID", handle, lambda card: f"GPU-{handle:04d}-fake")

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return self._said("nvmlDeviceGetName", handle, lambda card: card.name.encode())

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return self._said(
            "nvmlDeviceGetMemoryInfo",
            handle,
            lambda card: SimpleNamespace(used=card.memory_used_bytes, total=card.memory_total_bytes),
        )

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return self._said(
            "nvmlDeviceGetUtilizationRates", handle, lambda card: SimpleNamespace(gpu=37, memory=12)
        )

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        assert sensor == 0
        return self._said("nvmlDeviceGetTemperature", handle, lambda card: card.temperature_celsius)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._said("nvmlDeviceGetPowerUsage", handle, lambda card: card.power_milliwatts)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return self._said("nvmlDeviceGetEnforcedPowerLimit", handle, lambda card: 160_000)

    def nvmlDeviceGetCudaComputeCapability(self, handle: int) -> tuple[int, int]:
        return self._said("nvmlDeviceGetCudaComputeCapability", handle, lambda card: card.compute_capability)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return self._said(
            "nvmlDeviceGetComputeRunningProcesses",
            handle,
            lambda card: [
                SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.processes.items()
            ],
        )

    def _said(self, call: str, handle: int, answer: Callable[[FakeCard], Any]) -> Any:
        card = self._cards[handle]
        if call in card.silent:
            raise FakeNvmlError("Not Supported")
        return answer(card)
