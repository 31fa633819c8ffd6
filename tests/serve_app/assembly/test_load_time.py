"""Models that take too long to load fail by name; how a load ends otherwise is not changed."""

from __future__ import annotations

import threading

import pytest

from serve_app.assembly.load_time import load_within
from serve_app.core.errors import ModelUnavailable


def test_what_was_loaded_and_what_was_raised() -> None:
    assert load_within(60, "tiny.en", lambda: "a model") == "a model"

    def fail() -> None:
        raise TimeoutError("the hub does not answer")

    with pytest.raises(TimeoutError, match="the hub does not answer"):
        load_within(60, "tiny.en", fail)


def test_a_load_that_hangs_is_named_with_its_setting() -> None:
    hangs = threading.Event()
    with pytest.raises(
        ModelUnavailable, match=r"^large-v3 did not load within 0\.05 s.*MODEL_LOAD_TIMEOUT_S"
    ):
        load_within(0.05, "large-v3", lambda: hangs.wait(60))
    hangs.set()
