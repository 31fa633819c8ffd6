"""A session that waits for a model learns of it after five seconds, and again when it goes on."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.fake_time import FakeClock
from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from fakes.told_events import ToldEvents
from serve_app.core.events import Event, Final, ModelStatus
from serve_app.core.samples import Pcm16
from serve_app.service.conductor import Conductor, ConductorConfig
from serve_app.service.counters import Counters
from serve_app.service.live import Live
from serve_app.service.silence import SILENCE_S, SilenceWatch
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.vad.detector import VadRequest, VadResult


def a_live(name: str = "s") -> Live:
    return Live(Session(SessionOptions(name, language="en")), max_buffer_ms=60_000, wake=lambda: None)


class Watched:
    """One session, a watch and its clock; `said` are the states that the client was told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.watch = SilenceWatch(self.clock)
        self.live = a_live()
        self.told = ToldEvents(self.live)

    def wait_s(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.pass_s(1)
            self.watch.look()

    @property
    def said(self) -> list[tuple[bool, float]]:
        return [(e.stalled, round(e.waited_s, 3)) for e in self.told if isinstance(e, ModelStatus)]


def test_a_decode_without_an_answer() -> None:
    watched = Watched()
    watched.watch.asked(watched.live)
    watched.wait_s(4)
    assert watched.said == []
    watched.wait_s(20)
    assert watched.said == [(True, 5.0)]
    watched.watch.answered(watched.live)
    assert watched.said == [(True, 5.0), (False, 24.0)]
    watched.wait_s(60)
    assert len(watched.said) == 2


def test_each_answer_begins_the_time_anew() -> None:
    watched = Watched()
    for _ in range(5):
        watched.watch.asked(watched.live)
    for _ in range(5):
        watched.wait_s(4)
        watched.watch.answered(watched.live)
    watched.wait_s(60)
    assert watched.said == []


def test_the_voice_detector_too_and_both_together() -> None:
    watched = Watched()
    watched.watch.listening([watched.live])
    watched.wait_s(2)
    watched.watch.asked(watched.live)
    watched.wait_s(8)
    assert watched.said == [(True, 5.0)]
    watched.watch.listened()  # the decode is still not answered
    assert watched.said == [(True, 5.0)]
    watched.watch.answered(watched.live)
    assert watched.said == [(True, 5.0), (False, 10.0)]


def test_other_sessions_hear_nothing_of_it() -> None:
    watched = Watched()
    other = a_live("other")
    told = ToldEvents(other)
    watched.watch.asked(watched.live)
    watched.wait_s(3)
    watched.watch.asked(other)
    watched.wait_s(3)
    assert len(watched.said) == 1
    assert not [event for event in told if isinstance(event, ModelStatus)]


def test_a_session_that_ended_is_told_nothing_and_forgotten() -> None:
    watched = Watched()
    watched.watch.asked(watched.live)
    watched.live.cancel()
    watched.wait_s(20)
    assert watched.said == []
    watched.watch.answered(watched.live)
    assert not watched.watch._decodes
    assert not watched.watch._told


@given(st.lists(st.sampled_from(["ask", "answer", "listen", "hear", "wait"]), max_size=60))
def test_states_alternate_and_the_last_one_is_true(steps: list[str]) -> None:
    watched = Watched()
    open_decodes, listening = 0, False
    for step in steps:
        match step:
            case "ask":
                watched.watch.asked(watched.live)
                open_decodes += 1
            case "answer" if open_decodes:
                watched.watch.answered(watched.live)
                open_decodes -= 1
            case "listen" if not listening:
                watched.watch.listening([watched.live])
                listening = True
            case "hear" if listening:
                watched.watch.listened()
                listening = False
            case "wait":
                watched.wait_s(3)
    states = [stalled for stalled, _ in watched.said]
    assert states == [number % 2 == 0 for number in range(len(states))]
    if not open_decodes and not listening:
        assert len(states) % 2 == 0
    else:
        watched.wait_s(round(SILENCE_S) + 1)
        assert len(watched.said) % 2 == 1


class HeldVoice(FakeVoice):
    def __init__(self) -> None:
        super().__init__()
        self.called, self.go_on = asyncio.Event(), asyncio.Event()

    async def detect(self, requests: list[VadRequest]) -> list[VadResult]:  # type: ignore[override]
        self.called.set()
        await self.go_on.wait()
        return await super().detect(requests)


@pytest.mark.parametrize("silent", ["recogniser", "voice"])
async def test_a_client_is_told_over_the_whole_way_and_loses_no_word(silent: str) -> None:
    clock, recogniser, voice = FakeClock(), FakeRecogniser(), HeldVoice()
    held = recogniser if silent == "recogniser" else voice
    for port in (recogniser, voice):
        port.go_on.set()
    held.go_on.clear()
    conductor = Conductor(
        ConductorConfig(tick_s=0.001),
        voice=voice,
        interim=recogniser,
        final=recogniser,
        counters=Counters(),
        clock=clock,
    )
    running = asyncio.create_task(conductor.run())
    live = Live(Session(SessionOptions("s", language="en")), max_buffer_ms=60_000, wake=conductor.wake)
    conductor.add(live)
    told = ToldEvents(live)
    audio: Pcm16 = np.concatenate([speak([Say(1), Say(2, pause_ms=800)]), speak([Say(3)])])
    await live.push(audio)
    live.end()
    await held.called.wait()
    clock.pass_s(SILENCE_S + 1)
    conductor._silence.look()
    held.go_on.set()
    events: list[Event] = await told.until_ended()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await conductor.close()
    states = [event.stalled for event in events if isinstance(event, ModelStatus)]
    assert states == [True, False]
    said = " ".join(event.text for event in events if isinstance(event, Final))
    assert said.split() == ["w1", "w2", "w3"]
