"""Any frames in any order at every live door: it answers in its own shape, fails at nothing, and closes.

Hypothesis makes conversations out of each door's own frames, spoilt ones and arbitrary ones (JSON of any
shape and depth, bytes of any kind), and cuts a failing one down to what matters. `STT_FUZZ_EXAMPLES` is how
many conversations each door gets.
"""

import asyncio
import json
import operator
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fakes.asgi_socket import AsgiSocket
from fakes.door_conversations import TARGETS
from fakes.fake_service import FakeService, FakeSettings
from serve_app.access.caller import KeyLimits
from serve_app.access.limits import Limiter
from serve_app.protocols.native.dialect import NativeDialect
from serve_app.web.app import Guards, create_app

NUM_EXAMPLES = int(os.environ.get("STT_FUZZ_EXAMPLES", "25"))
IDLE_S = 0.05
HANGS_AFTER_S = 60
NO_LIMITS = KeyLimits()
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


BEGINNINGS = st.sampled_from(
    [b"OggS", b"\x1a\x45\xdf\xa3", b"RIFF\xff\xff\xff\xffWAVE", b"fLaC", b"ffconcat version 1.0\n"]
)
"""Of containers, one of them with files that it names."""


def spoilt(frame):
    """A frame of the door as the other kind, with a piece of its bytes or one of its values replaced."""
    data = frame.encode() if isinstance(frame, str) else frame
    pieces = st.builds(
        lambda at, num_dropped, junk: data[:at] + junk + data[at + num_dropped :],
        st.integers(0, len(data)),
        st.integers(0, 40),
        st.binary(max_size=9),
    )
    if isinstance(frame, bytes):
        return pieces | st.just(frame.decode("latin-1"))
    message = json.loads(frame)
    return st.one_of(
        pieces.map(lambda piece: piece.decode("utf-8", "replace")),
        st.just(data),
        st.builds(
            lambda place, value: json.dumps(replaced(message, place, value)),
            st.sampled_from(list(places(message))) | st.tuples(st.text(max_size=8)),
            VALUES,
        ),
        st.sampled_from(list(places(message))).map(lambda place: json.dumps(dropped(message, place))),
    )


def places(message, above=()):
    """The way to every value in a message: names, from the outside in."""
    for name, value in message.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from places(value, (*above, name))


def replaced(message, place, value):
    name, *inside = place
    return {**message, name: replaced(message[name], inside, value) if inside else value}


def dropped(message, place):
    name, *inside = place
    if inside:
        return {**message, name: dropped(message[name], inside)}
    return {kept: value for kept, value in message.items() if kept != name}


def frames_of(target):
    known = st.sampled_from(target.valid)
    anything = st.one_of(
        st.binary(max_size=4_000),
        st.text(max_size=200),
        VALUES.map(json.dumps),
        DEEP,
        st.builds(operator.add, BEGINNINGS, st.binary(max_size=900)),
        st.just(b""),
        st.just(""),
    )
    return st.lists(st.one_of(known, known, known.flatmap(spoilt), anything), max_size=12)


async def conversation(app, target, frames, leaves):
    """All that the door says, and the close code that it ends with; None where the client leaves."""
    said = []
    async with (
        asyncio.timeout(HANGS_AFTER_S),
        AsgiSocket(app, target.path, query=target.query) as socket,
    ):
        for frame in frames:
            socket.say(frame)
        if leaves:
            return said, None
        while "close" not in (message := await socket.heard()):
            said.append(message)
        return said, message["close"]


def assert_door_holds(target, frames, leaves, limits=NO_LIMITS):
    """One conversation, after which the door has answered, closed, logged no error and kept nothing."""
    service = FakeService()
    quick = FakeSettings(idle_timeout_s=IDLE_S, start_timeout_s=IDLE_S, max_session_s=5)
    app = create_app(service, quick, guards=Guards(limiter=Limiter(of_address=limits)))
    with capture_logs() as logs:
        said, code = asyncio.run(conversation(app, target, frames, leaves))
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
    assert code is None or code in CLOSES or target.path == "/asr"
    assert all(isinstance(message, dict) for message in said)
    assert service.live == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits", [NO_LIMITS, KeyLimits(audio_minutes_per_day=0.01)], ids=["free", "limited"]
)
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_whatever_a_client_says_its_door_answers_and_closes(target, limits):
    @settings(
        max_examples=NUM_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(frames=frames_of(target), leaves=st.booleans())
    def is_answered(frames, leaves):
        assert_door_holds(target, frames, leaves, limits)

    is_answered()


def test_a_door_that_fails_is_found(monkeypatch):
    def receive(self, frame):
        raise ZeroDivisionError

    monkeypatch.setattr(NativeDialect, "receive", receive)
    with pytest.raises(AssertionError, match="live connection failed"):
        assert_door_holds(TARGETS[0], TARGETS[0].valid, leaves=False)


def test_a_door_that_hangs_is_found(monkeypatch):
    async def hang(self):
        await asyncio.Event().wait()

    monkeypatch.setattr("serve_app.web.live.shell.LiveShell.run", hang)
    monkeypatch.setattr(f"{__name__}.HANGS_AFTER_S", 0.05)
    with pytest.raises(TimeoutError):
        assert_door_holds(TARGETS[0], TARGETS[0].valid, leaves=False)
