"""axe-core's verdict on a page: `await axe(page)` is the list of its serious and critical faults.

axe-core is fetched from npm's registry once, into a folder of the user's; tests skip where it cannot be had.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from fakes.chromium import Page

VERSION = "4.14.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "sotto-tests"
SCRIPT = CACHE / f"axe-core-{VERSION}.js"
LIMIT_S = 120

_RUN = """
axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html.slice(0, 200))]))
"""


async def axe(page: Page) -> list[list[str]]:
    """Rules that are broken, each with the elements that break it. Skips the test without axe-core."""
    if not await page.value("typeof axe === 'object'"):
        await page.value(f"{await asyncio.to_thread(axe_script)}; 1")
    faults: list[list[str]] = await page.value(_RUN)
    return faults


def axe_script() -> str:
    if not SCRIPT.exists():
        _fetch()
    return SCRIPT.read_text()


def _fetch() -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("axe-core is fetched by npm, which is not installed")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        command = [npm, "pack", "--silent", f"axe-core@{VERSION}", "--pack-destination", folder]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
        if done.returncode != 0:
            pytest.skip(f"npm could not fetch axe-core: {done.stderr.strip()[-200:]}")
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extract("package/axe.min.js", folder, filter="data")
        Path(folder, "package", "axe.min.js").replace(SCRIPT)
