"""docs/capacity.md says what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from serve_app.capacity.policy import Reason, ScalingRules
from serve_app.capacity.throughput import CPU_MACHINES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "capacity.md").read_text(encoding="utf-8")


def test_every_constant_of_the_policy_with_its_default() -> None:
    rows = [line.split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    said: dict[str, float] = {}
    for row in rows:
        names = [name.strip().strip("`") for name in row[1].split(",")]
        values = [value.strip() for value in row[2].split(",")]
        if len(names) == len(values) and names[0] in {field.name for field in fields(ScalingRules)}:
            said.update(zip(names, map(float, values), strict=True))
    rules = ScalingRules()
    assert said == {field.name: getattr(rules, field.name) for field in fields(ScalingRules)}


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.STEADY])
def test_every_reason_of_a_decision(reason: Reason) -> None:
    assert f"`{reason.value}`" in PAGE


def test_every_model_measured_on_a_cpu() -> None:
    assert all(f"`{model}`" in PAGE for model in CPU_MACHINES)
