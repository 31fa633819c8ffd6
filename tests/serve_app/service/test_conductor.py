"""The conductor: one call per tick and deployment, finals first, and nothing lost when a replica dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from fakes.local_metrics import LocalInstruments
from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from fakes.told_events import ToldEvents
from serve_app.capacity.ladder import LadderLimits, Rung
from serve_app.core.events import (
    EndReason,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionError,
    SessionStarted,
)
from serve_app.core.jobs import Role
from serve_app.core.samples import Pcm16
from serve_app.service import retries
from serve_app.service.conductor import Conductor, ConductorConfig
from serve_app.service.counters import Counters
from serve_app.service.live import Live
from serve_app.session.backpressure import InterimBudget
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.telemetry.metrics import Metrics

CONFIG = ConductorConfig(tick_s=0.001, interim_budget=InterimBudget(num_workers=2, max_in_flight=4))
OPTIONS = SessionOptions("s", language="en", partial_interval_ms=200)


def dialogue(first: int) -> Pcm16:
    return speak([Say(first), Say(first + 1, pause_ms=700), Say(first + 2), Say(first + 3, pause_ms=800)])


@asynccontextmanager
async def conducting(
    voice: FakeVoice,
    final: FakeRecogniser,
    interim: FakeRecogniser | None = None,
    config: ConductorConfig = CONFIG,
) -> AsyncIterator[Conductor]:
    conductor = Conductor(config, voice=voice, interim=interim or final, final=final, counters=Counters())
    task = asyncio.create_task(conductor.run())
    try:
        yield conductor
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await conductor.close()


def open_live(
    conductor: Conductor, session_id: str = "s", max_buffer_ms: int = 5_000, **options: object
) -> Live:
    chosen = replace(OPTIONS, session_id=session_id, **options)  # type: ignore[arg-type]
    live = Live(Session(chosen), max_buffer_ms=max_buffer_ms, wake=conductor.wake)
    conductor.add(live)
    return live


async def talk(live: Live, audio: Pcm16, chunk: int = 1600, pause_s: float = 0.0) -> list[Event]:
    async def send() -> None:
        for start in range(0, len(audio), chunk):
            await live.push(audio[start : start + chunk])
            await asyncio.sleep(pause_s)
        live.end()

    told = ToldEvents(live)
    sender = asyncio.create_task(send())
    events = await told.until_ended()
    await sender
    return events


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


async def test_many_sessions_share_one_voice_call_per_tick() -> None:
    voice, recogniser = FakeVoice(), FakeRecogniser()
    async with conducting(voice, recogniser) as conductor:
        lives = [open_live(conductor, f"s{number}") for number in range(8)]
        results = await asyncio.gather(
            *(talk(live, dialogue(10 * number), pause_s=0.002) for number, live in enumerate(lives))
        )
    for number, events in enumerate(results):
        assert texts(events) == [
            f"w{10 * number} w{10 * number + 1}",
            f"w{10 * number + 2} w{10 * number + 3}",
        ]
        assert isinstance(events[0], SessionStarted)
        assert events[-1] == SessionEnded(EndReason.COMPLETED, len(dialogue(0)), 2)
    assert max(voice.batch_sizes) == 8


async def test_silence_faster_than_real_time_is_heard_to_its_end() -> None:
    """Nothing comes back from a recogniser that could wake the conductor for the rest of it."""
    silence = np.zeros(30 * 16_000, np.int16)
    async with conducting(FakeVoice(), FakeRecogniser()) as conductor, asyncio.timeout(60):
        events = await talk(open_live(conductor), silence, chunk=len(silence))
    assert events[-1] == SessionEnded(EndReason.COMPLETED, len(silence), 0)


@pytest.mark.parametrize("dies_on", [{1}, {2, 3}, {1, 2, 3, 4}])
async def test_a_dead_replica_loses_and_doubles_nothing(
    dies_on: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "RETRY_PAUSES_S", (0.0, 0.001, 0.001, 0.001, 0.001, 0.001))
    voice, recogniser = FakeVoice(dies_on), FakeRecogniser(dies_on=dies_on)
    async with conducting(voice, recogniser) as conductor:
        events = await talk(open_live(conductor), dialogue(1))
    assert texts(events) == ["w1 w2", "w3 w4"]
    assert not [event for event in events if isinstance(event, SessionError)]


async def test_a_replica_that_stays_dead_is_said_and_the_session_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "RETRY_PAUSES_S", (0.0, 0.001))
    monkeypatch.setattr(retries, "MORE_PAUSES_S", ())
    monkeypatch.setattr(retries, "LOST_PATIENCE_S", 0.0)
    recogniser = FakeRecogniser(dies_on=set(range(1, 100)))
    async with conducting(FakeVoice(), recogniser) as conductor:
        events = await talk(open_live(conductor), dialogue(1))
    assert texts(events) == []
    assert [event.code for event in events if isinstance(event, SessionError)] == ["INFERENCE_ERROR"] * 2
    assert isinstance(events[-1], SessionEnded)


async def test_one_bad_item_harms_no_other() -> None:
    recogniser = FakeRecogniser(fails=lambda job: int(job.audio.max()) == 2_000 + 10 * 2)
    async with conducting(FakeVoice(), recogniser) as conductor:
        bad, good = open_live(conductor, "bad"), open_live(conductor, "good")
        bad_events, good_events = await asyncio.gather(talk(bad, dialogue(1)), talk(good, dialogue(5)))
    assert texts(bad_events) == ["w3 w4"]
    assert texts(good_events) == ["w5 w6", "w7 w8"]


async def test_audio_faster_than_real_time_is_slowed_and_never_dropped() -> None:
    recogniser = FakeRecogniser(delay_s=lambda job: 0.02)
    async with conducting(FakeVoice(), recogniser) as conductor:
        live = open_live(conductor, max_buffer_ms=500)
        audio = np.concatenate([dialogue(number) for number in range(0, 80, 4)])
        most = 0

        async def watch() -> None:
            nonlocal most
            while not live.session.ended:
                most = max(most, live.session.unheard_samples)
                await asyncio.sleep(0)

        events, _ = await asyncio.gather(talk(live, audio, chunk=16_000), watch())
    assert " ".join(texts(events)).split() == [f"w{number}" for number in range(80)]
    assert most <= 2 * 8_000 + 8_000  # the buffer, one push more, and the endpoint silence heard again
    assert events[-1] == SessionEnded(EndReason.COMPLETED, len(audio), 40)


async def test_interims_wait_while_finals_queue() -> None:
    finals_running = 0
    most_finals_seen_by_interim = 0

    def delay_s(job: object) -> float:
        return 0.05

    recogniser = FakeRecogniser(delay_s=delay_s)
    config = replace(CONFIG, speculative_finals=False, interim_budget=InterimBudget(num_workers=1))
    async with conducting(FakeVoice(), recogniser, config=config) as conductor:
        interims_sent = conductor._offer_interims

        def spy() -> None:
            nonlocal most_finals_seen_by_interim, finals_running
            before = conductor.num_interims_in_flight
            interims_sent()
            if conductor.num_interims_in_flight > before:
                finals_running = conductor.num_finals_in_flight
                most_finals_seen_by_interim = max(most_finals_seen_by_interim, finals_running)

        conductor._offer_interims = spy  # type: ignore[method-assign]
        lives = [open_live(conductor, f"s{number}") for number in range(6)]
        await asyncio.gather(
            *(talk(live, dialogue(number), pause_s=0.003) for number, live in enumerate(lives))
        )
    assert recogniser.of(Role.INTERIM)
    assert most_finals_seen_by_interim <= 1


async def test_every_text_says_how_late_it_is() -> None:
    heard: list[tuple[Partial | Final, float]] = []
    recogniser = FakeRecogniser(delay_s=lambda job: 0.05)
    async with conducting(FakeVoice(), recogniser) as conductor:
        live = Live(
            Session(OPTIONS),
            max_buffer_ms=60_000,
            wake=conductor.wake,
            on_text=lambda *text: heard.append(text),
        )
        conductor.add(live)
        events = await talk(live, dialogue(2))
    finals = [late_s for text, late_s in heard if isinstance(text, Final)]
    assert len(finals) == len(texts(events)) > 0
    assert all(0.05 <= late_s < 60.0 for late_s in finals)


async def test_a_removed_session_leaves_nothing_behind() -> None:
    recogniser = FakeRecogniser(delay_s=lambda job: 0.05)
    async with conducting(FakeVoice(), recogniser) as conductor:
        live = open_live(conductor)
        told = ToldEvents(live)
        await live.push(dialogue(1))
        while not recogniser.jobs:
            await asyncio.sleep(0.001)
        conductor.remove("s")
        live.cancel()
        while conductor.num_finals_in_flight or conductor.num_interims_in_flight:
            await asyncio.sleep(0.005)
        assert type(told[-1]) is SessionEnded


async def test_a_failure_in_passing_loses_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_PAUSES_S", (0.0, 0.001, 0.001, 0.001))
    recogniser = FakeRecogniser()
    recogniser.busy_times = 3
    async with conducting(FakeVoice(), recogniser) as conductor:
        events = await talk(open_live(conductor), dialogue(1))
    assert texts(events) == ["w1 w2", "w3 w4"]
    assert not [event for event in events if isinstance(event, SessionError)]


async def test_the_last_answer_is_published_though_it_is_not_time_yet() -> None:
    """Nothing wakes the conductor behind it: what was shown as waiting would wait for ever."""
    local, recogniser, now_s = LocalInstruments(), FakeRecogniser(), [0.0]
    conductor = Conductor(
        replace(CONFIG, speculative_finals=False),
        voice=FakeVoice(),
        interim=recogniser,
        final=recogniser,
        counters=Counters(Metrics(local)),
        clock=lambda: now_s[0],
    )

    async def shown(depth: int) -> None:
        async with asyncio.timeout(30):
            while local.value("stt_queue_depth", {"queue_type": "final"}) != depth:
                await asyncio.sleep(0.001)

    task = asyncio.create_task(conductor.run())
    recogniser.go_on.clear()
    talking = asyncio.create_task(talk(open_live(conductor, partials=False), speak([Say(1, pause_ms=800)])))
    await recogniser.called.wait()
    now_s[0] = 10.0
    conductor.wake()
    await shown(1)
    recogniser.go_on.set()
    assert texts(await talking) == ["w1"]
    await shown(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_finals_under_the_heaviest_load_are_decoded_by_the_smaller_model_and_none_is_lost() -> None:
    recogniser = FakeRecogniser()
    limits = LadderLimits(num_workers=2, max_total_ms=500)
    conductor = Conductor(
        replace(CONFIG, ladder=limits),
        voice=FakeVoice(),
        interim=recogniser,
        final=recogniser,
        counters=Counters(),
        smaller_knows=lambda job: job.language == "en",
    )
    loaded_until(conductor, Rung.SMALLER_FINALS, wait_ms=360)
    task = asyncio.create_task(conductor.run())
    try:
        english, german = open_live(conductor, "en"), open_live(conductor, "de", language="de")
        events = await asyncio.gather(talk(english, dialogue(1)), talk(german, dialogue(11)))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await conductor.close()
    assert [texts(heard) for heard in events] == [["w1 w2", "w3 w4"], ["w11 w12", "w13 w14"]]
    finals = [job for job in recogniser.jobs if job.role is Role.FINAL]
    assert {job.model for job in finals if job.language == "en"} == {Role.INTERIM}
    assert {job.model for job in finals if job.language == "de"} == {None}
    assert not [job for job in recogniser.jobs if job.role is Role.INTERIM]  # they pause


def loaded_until(conductor: Conductor, rung: Rung, *, wait_ms: float) -> None:
    """As if finals had waited so long, and go on doing so: the ladder stands still afterwards."""
    ladder, now_s = conductor._ladder, time.monotonic() - 60
    for _ in range(100):
        now_s += 0.1
        ladder.final_answered(wait_ms, 100.0, 4.0, now_s)
        ladder.step(now_s, num_finals=0, backlog_s=0.0)
    assert ladder.rung is rung
    ladder.step = lambda now_s, **load: ladder.rung  # type: ignore[method-assign, assignment]
    conductor.take_stock()


async def test_speculation_ends_before_interims_do() -> None:
    recogniser = FakeRecogniser()
    async with conducting(FakeVoice(), recogniser) as conductor:
        loaded_until(conductor, Rung.NO_SPECULATION, wait_ms=200)
        live = open_live(conductor)
        asked: list[object] = []
        live.session.speculative_request = lambda: asked.append(1)  # type: ignore[method-assign, func-returns-value]
        events = await talk(live, dialogue(1), pause_s=0.002)
    assert texts(events) == ["w1 w2", "w3 w4"]
    assert not asked
    assert [job for job in recogniser.jobs if job.role is Role.INTERIM]


async def test_a_session_faster_than_speech_makes_no_other_wait_and_is_no_load() -> None:
    """It has one final at the recogniser while the workers are busy; its others wait with it."""
    most = 0
    recogniser = FakeRecogniser(delay_s=lambda job: 0.02)
    config = replace(CONFIG, speculative_finals=False, interim_budget=InterimBudget(num_workers=2))
    async with conducting(FakeVoice(), recogniser, config=config) as conductor:
        fast = open_live(conductor, "fast", max_buffer_ms=60_000, partials=False)
        others = [open_live(conductor, f"s{number}", partials=False) for number in range(3)]

        async def watch() -> None:
            nonlocal most
            while not fast.session.ended:
                most = max(most, fast.num_finals)
                if any(other.num_finals for other in others):
                    assert fast.num_finals <= 2
                await asyncio.sleep(0)

        audio = np.concatenate([dialogue(number) for number in range(0, 40, 4)])
        events, *heard, _ = await asyncio.gather(
            talk(fast, audio, chunk=len(audio)),
            *(talk(live, dialogue(100 + 4 * number), pause_s=0.002) for number, live in enumerate(others)),
            watch(),
        )
    assert " ".join(texts(events)).split() == [f"w{number}" for number in range(40)]
    for number, told in enumerate(heard):
        first = 100 + 4 * number
        assert texts(told) == [f"w{first} w{first + 1}", f"w{first + 2} w{first + 3}"]
    assert 1 <= most <= 2
    assert conductor._ladder.rung <= Rung.INTERIMS_SLOWER
