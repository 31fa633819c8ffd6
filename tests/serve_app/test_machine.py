"""Cores as a container has them, not as the machine does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serve_app.machine import available_cores

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
