"""Where the CPU time goes, by kind of process."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from serve_app.launch.process_kinds import kind_of
from serve_app.launch.processes import processes_of

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
