"""The checkers that say whether a deployment's files are right; a test that lacks one is skipped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DOCKER = Path(__file__).parents[2] / "deploy" / "docker"
sys.path[:0] = [str(DOCKER), str(DOCKER.parent)]


@pytest.fixture(scope="session")
def program() -> Callable[..., str]:
    """Where a program is: on the path, or beside this interpreter (deploy/checks.txt puts them there)."""

    def find(*names: str) -> str:
        for name in names:
            beside = Path(sys.executable).parent / name
            if found := shutil.which(name) or (str(beside) if beside.is_file() else None):
                return found
        pytest.skip(f"{names[0]} is not installed (pip install --require-hashes -r deploy/checks.txt)")

    return find
