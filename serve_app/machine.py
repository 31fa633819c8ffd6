"""What this process may use of the machine, containers' limits included."""

from __future__ import annotations

import math
import os
from pathlib import Path

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
