"""A limit on how long models may take to load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from serve_app.core.errors import ModelUnavailable

Loaded = TypeVar("Loaded")


def load_within(limit_s: float, names: str, load: Callable[[], Loaded]) -> Loaded:
    """What `load` returns. Raises `ModelUnavailable` after `limit_s` seconds: nothing can stop a load that
    hangs, so it goes on in a thread that ends with the process. `names`: of the models."""
    loading: Future[Loaded] = Future()

    def run() -> None:
        try:
            loading.set_result(load())
        except BaseException as error:
            loading.set_exception(error)

    threading.Thread(target=run, name="loading", daemon=True).start()
    try:
        return loading.result(limit_s)
    except TimeoutError:
        if loading.done():
            return loading.result()
        raise ModelUnavailable(
            f"{names} did not load within {limit_s:g} s: a slow disk or network, or too large a model for "
            "this machine (STT_MODEL_LOAD_TIMEOUT_S sets the limit)"
        ) from None
