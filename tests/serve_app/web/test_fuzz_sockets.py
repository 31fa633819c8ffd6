"""Any frames in any order at every live door: it answers in its own shape, fails at nothing, and closes.

Hypothesis makes conversations out of each door's own frames, spoilt ones and arbitrary ones (JSON of any
shape and depth, bytes of any kind), and cuts a failing one down to what matters. `benchmarks.live.fuzz_doors`
throws many more, at random.
"""

import asyncio
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from benchmarks.live.fuzz_doors import TARGETS
from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.caller import KeyLimits
from serve_app.access.limits import Limiter
from serve_app.web.app import Guards, create_app

pytestmark = pytest.mark.slow

NUM_EXAMPLES = int(os.environ.get("STT_FUZZ_EXAMPLES", "25"))
IDLE_S = 0.05
CLOSES = {1000, 1003, 1008, 1009, 1013, 4000, 4400}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DEEP = st.builds(
    lambda opening, closing, depth: opening * depth + closing * depth,
    st.sampled_from(["[", '{"a":', '{"session":', '{"type":[']),
    st.sampled_from(["]", "}", ""]),
    st.integers(1, 20_000),
)


def spoilt(frame):
    """A frame of the door with one of its values replaced, or a piece of its bytes."""
    if isinstance(frame, bytes):
        cut = st.integers(0, len(frame))
        return st.builds(lambda at, junk: frame[:at] + junk + frame[at:], cut, st.binary(max_size=9))
    message = json.loads(frame)
    return st.builds(
        lambda name, value: json.dumps({**message, name: value}),
        st.sampled_from(sorted(message)) | st.text(max_size=8),
        VALUES,
    )


def frames_of(target):
    known = st.sampled_from(target.valid)
    anything = st.one_of(
        st.binary(max_size=4_000),
        st.text(max_size=200),
        VALUES.map(json.dumps),
        DEEP,
        st.just(b""),
        st.just(""),
    )
    return st.lists(st.one_of(known, known, known.flatmap(spoilt), anything), max_size=12)


async def conversation(app, target, frames, leaves):
    """All that the door says, and the close code that it ends with; None where the client leaves."""
    said = []
    async with AsgiSocket(app, target.path, query=target.query) as socket:
        for frame in frames:
            socket.say(frame)
        if leaves:
            return said, None
        while "close" not in (message := await socket.heard()):
            said.append(message)
        return said, message["close"]


@pytest.mark.parametrize(
    "limits", [KeyLimits(), KeyLimits(audio_minutes_per_day=0.01)], ids=["free", "limited"]
)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whatever_a_client_says_its_door_answers_and_closes(target, limits):
    @settings(
        max_examples=NUM_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(frames=frames_of(target), leaves=st.booleans())
    def is_answered(frames, leaves):
        service = FakeService()
        quick = FakeSettings(idle_timeout_s=IDLE_S, start_timeout_s=IDLE_S, max_session_s=5)
        app = create_app(service, quick, guards=Guards(limiter=Limiter(of_address=limits)))
        with capture_logs() as logs:
            said, code = asyncio.run(conversation(app, target, frames, leaves))
        assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
        assert code is None or code in CLOSES or target.path == "/asr"
        assert all(isinstance(message, dict) for message in said)
        assert service.live == {}

    is_answered()
