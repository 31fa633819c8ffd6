"""What the audit makes of pip-audit's answers, and the bill of materials of the real locks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import supply_chain
from supply_chain import REQUIREMENTS, accepted_advisories, audit, bill_of_materials

RUNTIME = REQUIREMENTS / "runtime.txt"
SAFE = {"name": "msgspec", "version": "0.19", "vulns": []}
BAD = {"name": "left", "version": "1.0", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found"}


def answering(*answers: Any) -> Callable[..., Any]:
    """pip-audit, asked once for each answer: dependencies, a line of its standard error, or an exception."""
    left = list(answers)

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return subprocess.CompletedProcess(command, 1, "", answer)
        return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": answer, "fixes": []}), "")

    return run


@pytest.mark.parametrize(
    ("answers", "status", "said"),
    [
        ([[SAFE], [SAFE, UNKNOWN]], 0, "runtime.txt: 1 packages, 0 findings, 1 unknown to the service"),
        ([[SAFE], [SAFE, BAD]], 1, "left 1.0: PYSEC-2026-1, fixed in 1.1"),
        ([[BAD], [SAFE]], 0, "runtime.txt: 1 packages, 0 findings"),
        ([[SAFE], [UNKNOWN]], 0, "runtime.txt: skipped (the service knows none of its packages)"),
        ([[UNKNOWN]], 0, "no advisory service answers (the service knows none of its packages)"),
        (["trace\nConnectionError: refused"], 0, "no advisory service answers (ConnectionError: refused)"),
        ([subprocess.TimeoutExpired("pip-audit", 30)], 0, "answers (no answer within 30 s)"),
        ([[SAFE], subprocess.TimeoutExpired("pip-audit", 300)], 0, "skipped (no answer within 300 s)"),
    ],
)
def test_findings_fail_and_an_unreachable_service_is_said(
    answers: list[Any], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit([RUNTIME], answering(*answers)) == status
    assert said in capsys.readouterr().out


def test_what_is_accepted_needs_a_reason() -> None:
    assert accepted_advisories("# a comment\n\nPYSEC-1 # only on Windows\n") == ["PYSEC-1"]
    with pytest.raises(ValueError, match="PYSEC-1 is accepted without a reason"):
        accepted_advisories("PYSEC-1\n")
    assert accepted_advisories(supply_chain.ACCEPTED.read_text()) is not None


@pytest.mark.slow
def test_the_bill_of_materials_names_every_locked_package(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py")
    locks = [RUNTIME, REQUIREMENTS / "models.txt"]
    bill = json.loads(bill_of_materials(locks, supply_chain.ROOT / "pyproject.toml"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "sotto"
    locked = {
        line.partition("==")[0]
        for lock in locks
        for line in lock.read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    assert {component["name"] for component in bill["components"]} == locked
    assert all(component["externalReferences"][0]["hashes"] for component in bill["components"])
