"""Marks of tests that need what an extra installs; the second half of `.ci/run` selects them by `extras`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


def needs_speakers(test: Test) -> Test:
    """For what `make speakers` installs."""
    missing = find_spec("pyannote") is None or find_spec("scipy") is None
    return pytest.mark.extras(pytest.mark.skipif(missing, reason="needs `make speakers`")(test))
