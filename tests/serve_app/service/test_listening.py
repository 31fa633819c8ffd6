"""Windows of many sessions in few calls; labels late, lost or never: text flows and sessions end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from fakes.told_events import ToldEvents
from fakes.voices import FakeSpeakers
from serve_app.core.events import (
    EndReason,
    Event,
    Final,
    SessionEnded,
    SpeakerRevision,
)
from serve_app.core.samples import Pcm16
from serve_app.service import listening, retries
from serve_app.service.conductor import Conductor, ConductorConfig
from serve_app.service.counters import Counters
from serve_app.service.live import Live
from serve_app.service.ports import ReplicaLost
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.speakers.ports import SpeakerWindow, WindowVoices
from serve_app.speakers.turns import SpeakerMode

OPTIONS = SessionOptions("s", language="en", partials=False, speakers=SpeakerMode.VOICE)


def turns(*people: int) -> Pcm16:
    """A second and a half of each, with a pause behind it."""
    words = [[Say(100 * who + 10 * at + k + 1, ms=400) for k in range(4)] for at, who in enumerate(people)]
    return speak(
        [replace(word, pause_ms=800) if k == 3 else word for turn in words for k, word in enumerate(turn)]
    )


AUDIO = turns(0, 1, 0)


@asynccontextmanager
async def conducting(speakers: FakeSpeakers) -> AsyncIterator[Conductor]:
    voice, recogniser = FakeVoice(), FakeRecogniser()
    conductor = Conductor(
        ConductorConfig(tick_s=0.001),
        voice=voice,
        interim=recogniser,
        final=recogniser,
        counters=Counters(),
        speakers=speakers,
    )
    task = asyncio.create_task(conductor.run())
    try:
        yield conductor
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await conductor.close()


async def talk(
    conductor: Conductor,
    audio: Pcm16 = AUDIO,
    session_id: str = "s",
    on_sent: Callable[[], object] = lambda: None,
) -> list[Event]:
    live = Live(Session(replace(OPTIONS, session_id=session_id)), max_buffer_ms=5_000, wake=conductor.wake)
    conductor.add(live)

    async def send() -> None:
        for start in range(0, len(audio), 3_200):
            await live.push(audio[start : start + 3_200])
            await asyncio.sleep(0.004)
        live.end()
        on_sent()

    told = ToldEvents(live)
    sender = asyncio.create_task(send())
    events = await told.until_ended()
    await sender
    conductor.remove(session_id)
    return events


def known(events: Sequence[Event]) -> list[int | None]:
    labels = {
        event.utterance_id: event.speaker for event in events if isinstance(event, Final | SpeakerRevision)
    }
    return list(labels.values())


async def test_finals_are_labelled() -> None:
    async with conducting(FakeSpeakers()) as conductor:
        events = await talk(conductor)
    assert known(events) == [0, 1, 0]
    assert isinstance(events[-1], SessionEnded)


async def test_sessions_share_calls_and_only_so_many_windows_are_on_their_way() -> None:
    all_was_sent = asyncio.Event()
    still_sending = {f"s{n}" for n in range(6)}

    def sent(session_id: str) -> None:
        still_sending.remove(session_id)
        if not still_sending:
            all_was_sent.set()

    class Slow(FakeSpeakers):
        busy = most = 0
        sizes: list[int]

        async def listen(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
            self.sizes = [*getattr(self, "sizes", []), len(windows)]
            self.busy += 1
            self.most = max(self.most, self.busy)
            await all_was_sent.wait()  # windows gather until then
            self.busy -= 1
            return await super().listen(windows)

    speakers = Slow()
    async with conducting(speakers) as conductor:
        results = await asyncio.gather(
            *(talk(conductor, session_id=name, on_sent=partial(sent, name)) for name in sorted(still_sending))
        )
    assert [known(events) for events in results] == [[0, 1, 0]] * 6
    assert speakers.most == 1
    assert max(speakers.sizes) == listening.MAX_WINDOWS_PER_CALL
    assert speakers.num_calls < 6 * 3


async def test_a_lost_replica_costs_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_PAUSES_S", (0.0, 0.0))
    async with conducting(FakeSpeakers(failures=[ReplicaLost("died")])) as conductor:
        assert known(await talk(conductor)) == [0, 1, 0]


async def test_a_diarizer_that_fails_costs_labels_and_nothing_else() -> None:
    async with conducting(FakeSpeakers(failures=[RuntimeError("broken")] * 50)) as conductor:
        events = await talk(conductor)
    finals = [event for event in events if isinstance(event, Final)]
    assert [final.text for final in finals] == ["w1 w2 w3 w4", "w111 w112 w113 w114", "w21 w22 w23 w24"]
    assert {final.speaker for final in finals} == {None}
    assert events[-1] == SessionEnded(EndReason.COMPLETED, len(AUDIO), 3)


async def test_a_diarizer_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "PATIENCE_S", 0.05)

    class Silent(FakeSpeakers):
        async def listen(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
            await asyncio.Event().wait()
            raise AssertionError

    async with conducting(Silent()) as conductor, asyncio.timeout(60):
        events = await talk(conductor)
    assert len([event for event in events if isinstance(event, Final)]) == 3
    assert isinstance(events[-1], SessionEnded)
