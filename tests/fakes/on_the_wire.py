"""Records as a client reads them: encoded, and decoded as plain JSON, keys in their order."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import msgspec

Parameters = ParamSpec("Parameters")


def on_the_wire(record: Any) -> Any:
    return json.loads(msgspec.json.encode(record))


def assert_same_json(sent: Any, golden: Any) -> None:
    """Equal, and all keys in the same order: the same bytes."""
    assert sent == golden
    assert json.dumps(sent) == json.dumps(golden)


def written(codec: Callable[Parameters, Any]) -> Callable[Parameters, Any]:
    """`codec`, with what it returns as a client reads it."""

    @wraps(codec)
    def call(*args: Parameters.args, **options: Parameters.kwargs) -> Any:
        return on_the_wire(codec(*args, **options))

    return call
