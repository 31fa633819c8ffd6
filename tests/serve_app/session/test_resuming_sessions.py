"""A session that is cut where it says it can be, in silence too, goes on as if it had not been."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.session_driver import Driver
from fakes.talk import Say, speak
from serve_app.core.events import (
    Acknowledged,
    Event,
    Final,
    SessionEnded,
    SessionStarted,
)
from serve_app.core.jobs import Transcript
from serve_app.core.samples import Pcm16
from serve_app.session.checkpoint import Checkpoint
from serve_app.session.effects import DecodeRequest
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.vad.options import EndpointingOptions

OPTIONS = SessionOptions("s", language="en", partial_interval_ms=200)
AUDIO = speak(
    [Say(1), Say(2, pause_ms=700), Say(3, pause_ms=35_000), Say(4), Say(5, pause_ms=900), Say(6, ms=500)]
)
CUT_AUDIO = speak([Say(number, ms=280, pause_ms=40) for number in range(1, 40)])


class Tickets:
    """Issues names instead of tickets, and remembers what they stand for."""

    def __init__(self) -> None:
        self.checkpoints: dict[str, Checkpoint] = {}

    def issue(self, checkpoint: Checkpoint) -> str:
        ticket = f"ticket {len(self.checkpoints)}"
        self.checkpoints[ticket] = checkpoint
        return ticket


def session(options: SessionOptions, tickets: Tickets, checkpoint: Checkpoint | None = None) -> Session:
    return Session(options, checkpoint, issue_ticket=tickets.issue, acknowledge=True)


def finals(events: list[Event]) -> list[Final]:
    """Those with text: whether partials have to be taken back depends on whether they were shown."""
    said = [event for event in events if isinstance(event, Final) and event.text]
    return [replace(event, timing=None, ticket="") for event in said]  # type: ignore[arg-type]


def run_whole(options: SessionOptions, audio: Pcm16) -> tuple[Driver, Tickets]:
    tickets = Tickets()
    driver = Driver(session(options, tickets))
    driver.run(audio)
    return driver, tickets


WHOLE = {
    "silence": (OPTIONS, AUDIO, *run_whole(OPTIONS, AUDIO)),
    "cuts": (
        cut := replace(OPTIONS, endpointing=EndpointingOptions(max_utterance_ms=3_000)),
        CUT_AUDIO,
        *run_whole(cut, CUT_AUDIO),
    ),
    "vad_off": (
        off := replace(OPTIONS, endpointing=EndpointingOptions(enabled=False, max_utterance_ms=5_000)),
        AUDIO,
        *run_whole(off, AUDIO),
    ),
    "detect": (
        detect := replace(OPTIONS, language=None, carry_context=True),
        AUDIO,
        *run_whole(detect, AUDIO),
    ),
}


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.integers(0, 10_000),
    st.lists(st.integers(1, 20_000), min_size=1, max_size=5),
)
def test_whichever_ticket_is_presented_the_rest_is_the_same(name: str, seed: int, chunks: list[int]) -> None:
    options, audio, whole, tickets = WHOLE[name]
    rng = random.Random(seed)
    checkpoint = rng.choice(list(tickets.checkpoints.values()))
    resumed = Driver(session(options, Tickets(), checkpoint), rng)
    resumed.run(audio[checkpoint.sample :], chunks)
    assert finals(resumed.events) == [f for f in finals(whole.events) if f.sequence >= checkpoint.sequence]
    assert resumed.events[-1] == whole.events[-1]
    assert isinstance(resumed.events[-1], SessionEnded)


def test_tickets_are_never_far_apart_whatever_is_said() -> None:
    for options, audio, whole, _ in WHOLE.values():
        points = [0, *(e.sample for e in whole.events if isinstance(e, Acknowledged))]
        points += [e.resume_sample for e in whole.events if isinstance(e, Final)]
        points = [*sorted(points), len(audio)]
        longest = max(11, options.endpointing.max_utterance_ms / 1000 + 1)
        assert max(b - a for a, b in zip(points, points[1:], strict=False)) <= longest * 16_000


def test_a_final_carries_the_ticket_of_the_state_behind_it() -> None:
    _, _, whole, tickets = WHOLE["silence"]
    for event in whole.events:
        if isinstance(event, Final):
            checkpoint = tickets.checkpoints[event.ticket]
            assert (checkpoint.sample, checkpoint.sequence) == (event.resume_sample, event.sequence + 1)
        elif isinstance(event, Acknowledged):
            assert tickets.checkpoints[event.ticket].sample == event.sample


def test_noise_without_words_is_acknowledged() -> None:
    def nothing(request: DecodeRequest) -> Transcript:
        return Transcript(request.key, "", "en", 0.9, -0.1, 0.9, model="fake")

    tickets = Tickets()
    driver = Driver(session(OPTIONS, tickets), decode=nothing)
    driver.run(speak([Say(1, pause_ms=800), Say(2, pause_ms=800)]))
    acknowledged = [event for event in driver.events if isinstance(event, Acknowledged)]
    assert len(acknowledged) == 2
    assert tickets.checkpoints[acknowledged[-1].ticket].sequence == 0
    assert not finals(driver.events)


def test_nobody_hears_of_it_who_did_not_ask() -> None:
    driver = Driver(Session(OPTIONS))
    driver.run(AUDIO)
    assert not [event for event in driver.events if isinstance(event, Acknowledged)]
    assert finals(driver.events) == finals(WHOLE["silence"][2].events)


def test_the_start_says_where_it_goes_on() -> None:
    tickets = Tickets()
    assert session(OPTIONS, tickets).start() == [SessionStarted("s", False, 0, "ticket 0")]
    again = session(OPTIONS, tickets, Checkpoint(sample=77, sequence=2))
    assert again.start() == [SessionStarted("s", True, 77, "ticket 1")]
    assert tickets.checkpoints["ticket 1"] == Checkpoint(sample=77, sequence=2)
