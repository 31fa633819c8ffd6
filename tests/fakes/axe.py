"""axe-core, which checks web pages for people who cannot see, hear or point: fetched by npm, kept nowhere."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from fakes.chromium import Page

PACKAGE = "axe-core@4.14.1"
LIMIT_S = 120

_RUN = """
axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]))
"""


@cache
def axe_source() -> str:
    """Its script; the test is skipped where npm cannot get it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    with TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--prefer-offline", "--silent", "--pack-destination", folder]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
        archives = list(Path(folder).glob("*.tgz"))
        if run.returncode != 0 or not archives:
            pytest.skip(f"npm cannot get {PACKAGE}: {run.stderr[-300:]}")
        with tarfile.open(archives[0]) as files:
            script = files.extractfile("package/axe.min.js")
            assert script is not None
            return script.read().decode()


async def serious_faults(page: Page) -> list[Any]:
    """Rules of serious or critical weight that the page breaks as it stands, each with its elements."""
    if not await page.value("typeof axe === 'object'"):
        await page.value(axe_source() + "; 1")
    faults: list[Any] = await page.value(_RUN)
    return faults
