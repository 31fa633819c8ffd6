"""What this machine has: cores, containers' limits included, and NVIDIA cards by their management library.

The library says memory, load, temperature, power and processes. It comes with the driver, its bindings with
the package nvidia-ml-py (module `pynvml`). Both are looked for when asked, and a machine without either has
no cards: nothing here raises for that.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import structlog

_TEMPERATURE_OF_THE_CHIP = 0
_WATTS_PER_MILLIWATT = 1e-3
_MAX_PROCESSES = 1_000
_GIB = 1024**3

_log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process that computes on a card; `memory_used_bytes` None where the driver does not say."""

    pid: int
    memory_used_bytes: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card at one moment; None for what it does not report.

    `index` counts in the order of PCI addresses. `utilisation`: the fraction of the last moments in which a
    kernel ran. `compute_capability` is CUDA's generation, (7, 5) for Turing.
    """

    index: int
    uuid: str
    name: str
    memory_used_bytes: int
    memory_total_bytes: int
    utilisation: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    compute_capability: tuple[int, int] | None = None
    processes: tuple[GpuProcess, ...] = ()

    @property
    def memory_free_bytes(self) -> int:
        return max(0, self.memory_total_bytes - self.memory_used_bytes)

    def memory_of(self, pid: int) -> int | None:
        """What one process holds; None where it is not among the card's (in a container the driver may
        number processes otherwise than we see them)."""
        return next((process.memory_used_bytes for process in self.processes if process.pid == pid), None)


class Nvml(Protocol):
    """The part of `pynvml` that is used; `NVMLError` is its only exception."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> object: ...  # noqa: N802

    def nvmlShutdown(self) -> object: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802

    def nvmlDeviceGetUUID(self, handle: Any) -> str | bytes: ...  # noqa: N802

    def nvmlDeviceGetName(self, handle: Any) -> str | bytes: ...  # noqa: N802

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: N802

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...  # noqa: N802

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...  # noqa: N802

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int: ...  # noqa: N802

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any) -> Sequence[int]: ...  # noqa: N802

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Any]: ...  # noqa: N802


def read_gpus(nvml: Nvml | ModuleType | None = None) -> tuple[Gpu, ...]:
    """Every card that the driver shows, those hidden by `CUDA_VISIBLE_DEVICES` too; empty without any.

    A card that fails while it is read is left out, with a warning in the log. Milliseconds a card, blocking.
    """
    library: Any = nvml or _bindings()
    if library is None:
        return ()
    with _opened(library) as is_open:
        return tuple(_cards(library)) if is_open else ()


def visible_gpus(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Those of `gpus` that CUDA would show this process, in its order: by `CUDA_VISIBLE_DEVICES`, which
    names indices or the beginning of UUIDs. As in CUDA, a name that fits none ends the list."""
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        gpu = next((gpu for gpu in gpus if _is_named(gpu, name)), None)
        if gpu is None:
            break
        found.append(gpu)
    return tuple(found)


def describe_gpu(gpu: Gpu) -> str:
    """One line for a person: name, memory, and of load, temperature and power what the card reports."""
    parts = [gpu.name, f"{gpu.memory_used_bytes / _GIB:.1f} of {gpu.memory_total_bytes / _GIB:.1f} GiB used"]
    if gpu.utilisation is not None:
        parts.append(f"{100 * gpu.utilisation:.0f} % busy")
    if gpu.temperature_celsius is not None:
        parts.append(f"{gpu.temperature_celsius:.0f} °C")
    if gpu.power_watts is not None:
        limit = f" of {gpu.power_limit_watts:.0f}" if gpu.power_limit_watts else ""
        parts.append(f"{gpu.power_watts:.0f}{limit} W")
    if gpu.compute_capability is not None:
        parts.append("compute capability {}.{}".format(*gpu.compute_capability))
    parts += [
        f"pid {process.pid}: {process.memory_used_bytes / _GIB:.1f} GiB"
        for process in gpu.processes
        if process.memory_used_bytes is not None
    ]
    return ", ".join(parts)


def _is_named(gpu: Gpu, name: str) -> bool:
    return str(gpu.index) == name if name.isdecimal() else gpu.uuid.startswith(name)


# -- reading -----------------------------------------------------------------------------------------


def _bindings() -> ModuleType | None:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


@contextmanager
def _opened(library: Any) -> Iterator[bool]:
    """The library between its init and its shutdown; False where there is no driver."""
    try:
        library.nvmlInit()
    except (library.NVMLError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        _or_none(library, library.nvmlShutdown)


def _cards(library: Any) -> Iterator[Gpu]:
    for index in range(_or_none(library, library.nvmlDeviceGetCount) or 0):
        try:
            yield _card(library, index)
        except library.NVMLError as error:
            _log.warning("a GPU cannot be read", index=index, error=str(error))


def _card(library: Any, index: int) -> Gpu:
    handle = library.nvmlDeviceGetHandleByIndex(index)
    memory = library.nvmlDeviceGetMemoryInfo(handle)

    def ask(question: Callable[..., T], *more: int) -> T | None:
        return _or_none(library, question, handle, *more)

    load = ask(library.nvmlDeviceGetUtilizationRates)
    capability = ask(library.nvmlDeviceGetCudaComputeCapability)
    return Gpu(
        index=index,
        uuid=_text(library.nvmlDeviceGetUUID(handle)),
        name=_text(library.nvmlDeviceGetName(handle)),
        memory_used_bytes=int(memory.used),
        memory_total_bytes=int(memory.total),
        utilisation=None if load is None else load.gpu / 100,
        temperature_celsius=_scaled(ask(library.nvmlDeviceGetTemperature, _TEMPERATURE_OF_THE_CHIP), 1.0),
        power_watts=_scaled(ask(library.nvmlDeviceGetPowerUsage), _WATTS_PER_MILLIWATT),
        power_limit_watts=_scaled(ask(library.nvmlDeviceGetEnforcedPowerLimit), _WATTS_PER_MILLIWATT),
        compute_capability=None if capability is None else (int(capability[0]), int(capability[1])),
        processes=tuple(
            GpuProcess(int(process.pid), process.usedGpuMemory)
            for process in (ask(library.nvmlDeviceGetComputeRunningProcesses) or ())[:_MAX_PROCESSES]
        ),
    )


def _or_none(library: Any, question: Callable[..., T], *arguments: Any) -> T | None:
    """An answer, or None where this card, driver or permission has none."""
    try:
        return question(*arguments)
    except library.NVMLError:
        return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


_CGROUP_ROOT = Path("/sys/fs/cgroup")


def available_cores(cgroup_root: Path = _CGROUP_ROOT) -> int:
    """Cores that this process may use: those it is bound to, and no more than its control group's quota
    (Linux: cgroup v2 `cpu.max`, v1 `cpu.cfs_quota_us`), rounded up; at least 1."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_cores(cgroup_root)
    return max(1, bound if quota is None else min(bound, math.ceil(quota)))


def _quota_cores(root: Path) -> float | None:
    """None where there is no limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        quota_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
