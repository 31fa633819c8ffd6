"""Known vulnerabilities of the locked dependencies (pip-audit), and a bill of materials (CycloneDX).

    python deploy/supply_chain.py audit [requirements/runtime.txt ...]
    python deploy/supply_chain.py sbom out/sbom.json

`audit` asks the advisory service that pip-audit is set up for. Where that cannot be reached within a few
seconds, or knows none of the packages, it says so and passes: a check that needs the network is no reason to
stop work without one. It fails on a vulnerability that is not in deploy/advisories.txt.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
ACCEPTED = ROOT / "deploy" / "advisories.txt"
SHIPPED = ("runtime.txt", "models.txt")
"""The locks of what an image holds."""
PROBED = "certifi"
"""A package that every service knows: asked about first, before hundreds are."""
CONNECT_TIMEOUT_S = 5
PROBE_TIMEOUT_S = 30
AUDIT_TIMEOUT_S = 300

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Audited:
    """What is known of one lock: `skipped` says why it could not be looked up, else ""."""

    num_known: int
    num_unknown: int
    findings: tuple[str, ...]
    skipped: str = ""


def audit_lock(lock: Path, accepted: Sequence[str], timeout_s: float, run: Run = subprocess.run) -> Audited:
    """Look up every package of a lock; nothing is installed or resolved."""
    ignored = [part for advisory in accepted for part in ("--ignore-vuln", advisory)]
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "-r", str(lock)]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", str(CONNECT_TIMEOUT_S)]
    try:
        done = run([*command, *ignored], capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Audited(0, 0, (), f"no answer within {timeout_s:g} s")
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = (done.stderr.strip() or "no output").splitlines()[-1]
        return Audited(0, 0, (), said[:200])
    return _audited(dependencies)


def _audited(dependencies: Sequence[dict[str, Any]]) -> Audited:
    known = [dependency for dependency in dependencies if "skip_reason" not in dependency]
    findings = tuple(
        f"{one['name']} {one['version']}: {advisory['id']}"
        + (f", fixed in {', '.join(advisory['fix_versions'])}" if advisory.get("fix_versions") else "")
        for one in known
        for advisory in one.get("vulns", ())
    )
    skipped = "" if known or not dependencies else "the service knows none of its packages"
    return Audited(len(known), len(dependencies) - len(known), findings, skipped)


def accepted_advisories(text: str) -> list[str]:
    """The ids of deploy/advisories.txt, one a line. Raises `ValueError` where no reason stands behind `#`."""
    ids = []
    for line in text.splitlines():
        advisory, _, reason = (part.strip() for part in line.partition("#"))
        if advisory and not reason:
            raise ValueError(f"advisories.txt: {advisory} is accepted without a reason")
        ids += [advisory] if advisory else []
    return ids


def locked(name: str) -> str:
    """A package's lines in the lock of the runtime."""
    lines = (REQUIREMENTS / "runtime.txt").read_text().split("\n")
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{name}=="))
    end = next(n for n, line in enumerate(lines[first + 1 :], first + 1) if not line.startswith(" "))
    return "\n".join(lines[first:end]) + "\n"


def audit(locks: Sequence[Path], run: Run = subprocess.run) -> int:
    """Every lock's result, a line each; the exit status."""
    accepted = accepted_advisories(ACCEPTED.read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as probed:
        probed.write(locked(PROBED))
        probed.flush()
        probe = audit_lock(Path(probed.name), accepted, PROBE_TIMEOUT_S, run)
    if probe.skipped:
        print(f"pip-audit: skipped, no advisory service answers ({probe.skipped})")
        return 0
    status = 0
    for lock in locks:
        found = audit_lock(lock, accepted, AUDIT_TIMEOUT_S, run)
        if found.skipped:
            print(f"pip-audit: {lock.name}: skipped ({found.skipped})")
            continue
        unknown = f", {found.num_unknown} unknown to the service" if found.num_unknown else ""
        print(f"pip-audit: {lock.name}: {found.num_known} packages, {len(found.findings)} findings{unknown}")
        for finding in found.findings:
            print(f"  {finding}")
        status = 1 if found.findings else status
    return status


def bill_of_materials(locks: Sequence[Path], pyproject: Path) -> str:
    """CycloneDX 1.6 as JSON, with the locked hashes; the same for the same locks. Asks no network."""
    together = "\n".join(lock.read_text() for lock in locks)
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "-"]
    command += ["--pyproject", str(pyproject), "--output-reproducible", "--of", "JSON"]
    done = subprocess.run(command, input=together, capture_output=True, text=True, check=True)
    return done.stdout


def main(arguments: Sequence[str]) -> int:
    match list(arguments):
        case ["audit", *names]:
            locks = [Path(name) for name in names] or sorted(REQUIREMENTS.glob("*.txt"))
            return audit(locks)
        case ["sbom", target]:
            text = bill_of_materials([REQUIREMENTS / name for name in SHIPPED], ROOT / "pyproject.toml")
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            Path(target).write_text(text)
            print(f"{target}: {len(json.loads(text)['components'])} components")
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
