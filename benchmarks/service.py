"""The server under test, running already or started for the run, and its CPU time by kind of process."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from serve_app.launch.cluster import free_ports
from serve_app.launch.plan import plan_service
from serve_app.launch.processes import kind_of, processes_of
from serve_app.launch.serving import running_service


@dataclass(frozen=True, slots=True)
class ServiceUnderTest:
    """`runtime_dir` tells its processes from others'; None where it was running before."""

    url: str
    runtime_dir: Path | None


@contextmanager
def service_under_test(
    url: str | None, *, profile: str = "cpu", settings: Mapping[str, Any] | None = None
) -> Iterator[ServiceUnderTest]:
    """Yield the service at `url`, or one of our own on a free port with these settings."""
    if url is not None:
        yield ServiceUnderTest(url, None)
        return
    flags = {**(settings or {}), "profile": profile, "host": "127.0.0.1", "port": free_ports(1)[0]}
    plan = plan_service(flags)
    with running_service(
        plan.config,
        cluster=plan.cluster,
        progress=say,
        edge=plan.edge,
        timeout_s=plan.start_timeout_s,
    ) as service:
        yield ServiceUnderTest(service.url, service.cluster.runtime_dir)


def say(line: str) -> None:
    """A progress line, beside the results and not among them."""
    print(f"  {line}", file=sys.stderr, flush=True)


CLIENT = "client"
VOICE_ACTIVITY = "VoiceActivity"
RECOGNISERS = frozenset({"Recogniser", "InterimAsr", "FinalAsr", "ShortAsr"})


@dataclass(frozen=True, slots=True)
class CpuSnapshot:
    """Seconds of CPU (user and system) that each living process has used, and its memory."""

    seconds: Mapping[int, tuple[str, float]]
    rss_bytes: Mapping[str, int]


def snapshot(runtime_dir: Path | None) -> CpuSnapshot:
    """Of one instance's processes and this one; without a folder, of every Ray process on the machine."""
    own = psutil.Process()
    seconds = {own.pid: (CLIENT, _cpu_s(own))}
    rss_bytes: Counter[str] = Counter({CLIENT: own.memory_info().rss})
    processes = processes_of(runtime_dir) if runtime_dir is not None else list(psutil.process_iter())
    for process in processes:
        if process.pid == os.getpid():
            continue
        try:
            kind = kind_of(" ".join(process.cmdline()) or process.name())
            if kind is not None:
                seconds[process.pid] = (kind, _cpu_s(process))
                rss_bytes[kind] += process.memory_info().rss
        except psutil.Error:
            continue
    return CpuSnapshot(seconds, rss_bytes)


def cpu_between(before: CpuSnapshot, after: CpuSnapshot) -> dict[str, float]:
    """Seconds of CPU by kind; processes that began in between count whole, those that ended are lost."""
    used: defaultdict[str, float] = defaultdict(float)
    for pid, (kind, seconds) in after.seconds.items():
        started = before.seconds.get(pid)
        used[kind] += seconds - (started[1] if started and started[0] == kind else 0.0)
    return dict(used)


def overhead_s(cpu: Mapping[str, float], *, with_voice_activity: bool = False) -> float:
    """The share that is neither a recogniser nor the client; voice activity detection only if asked for."""
    left_out = {*RECOGNISERS, CLIENT} | (set() if with_voice_activity else {VOICE_ACTIVITY})
    return sum(seconds for kind, seconds in cpu.items() if kind not in left_out)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
