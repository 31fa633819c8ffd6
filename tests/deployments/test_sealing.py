"""What replicas raise in strict privacy."""

from __future__ import annotations

import pytest

from deployments.sealing import seal_calls
from serve_app.core.errors import InferenceError
from serve_app.core.sealing import SealedError


class Replica:
    async def decode(self, words):
        yield len(words)
        raise ValueError(f"cannot decode {words}")

    async def describe(self, error):
        if error is not None:
            raise error
        return "fine"

    def check_health(self):
        raise RuntimeError("the device is lost")


@pytest.fixture
def replica():
    replica = Replica()
    seal_calls(replica)
    return replica


async def test_a_stream_that_fails_keeps_what_it_gave_and_says_where_it_failed(replica):
    stream = replica.decode("the patient said")
    assert await anext(stream) == 16
    with pytest.raises(SealedError, match=r"ValueError at .*test_sealing.py:15 \(message hidden\)") as raised:
        await anext(stream)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert "patient" not in str(raised.value)


async def test_a_call_that_fails(replica):
    with pytest.raises(SealedError) as raised:
        await replica.describe(KeyError("measles"))
    assert "measles" not in str(raised.value)
    assert await replica.describe(None) == "fine"


async def test_our_own_errors_say_what_clients_may_read(replica):
    with pytest.raises(InferenceError, match="no room"):
        await replica.describe(InferenceError("no room"))


def test_health_checks_say_what_is_wrong(replica):
    with pytest.raises(RuntimeError, match="device is lost"):
        replica.check_health()
