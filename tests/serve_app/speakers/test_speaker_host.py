"""What a diarization replica runs: loaded when needed, live windows first, errors per call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from fakes.fake_time import FakeClock
from fakes.voices import analyse, turns_in
from serve_app.assembly.speakers import status_of
from serve_app.core.errors import InferenceError, ModelUnavailable, ReplicaUnhealthy
from serve_app.core.samples import Pcm16
from serve_app.settings import Settings
from serve_app.speakers import host as host_module
from serve_app.speakers.host import SpeakerHost
from serve_app.speakers.ports import SpeakerWindow, WindowVoices
from serve_app.speakers.turns import Diarization, SpeakerCounts

WINDOW = SpeakerWindow(np.full(16_000, 2_000, np.int16))


class Ears:
    """Both backends; counts what they were asked."""

    def __init__(self) -> None:
        self.loads = 0
        self.fail_with: Exception | None = None
        self.batches: list[int] = []
        self.between = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def analyse(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        self.batches.append(len(windows))
        if self.fail_with is not None:
            raise self.fail_with
        return analyse(windows)

    def diarize(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> Diarization:
        for step in range(4):
            pause()
            progress((step + 1) / 4)
            self.between.set()
            self.go_on.wait(60)
            self.batches.append(0)
        if self.fail_with is not None:
            raise self.fail_with
        return turns_in(audio)

    def load(self) -> Ears:
        self.loads += 1
        return self


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def host(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> SpeakerHost:
    monkeypatch.setattr(host_module.os, "nice", lambda _: 0)
    return SpeakerHost(status_of(Settings()), load_live=ears.load, load_recordings=ears.load)


async def test_models_are_loaded_once_and_only_when_they_are_needed(host: SpeakerHost, ears: Ears) -> None:
    assert ears.loads == 0
    voices = await host.listen([WINDOW, WINDOW])
    assert [len(answer.embeddings) for answer in voices] == [1, 1]
    await host.listen([WINDOW])
    assert ears.loads == 1
    assert host.waiting_audio_s == 0.0


async def test_a_recording_tells_its_progress_and_then_its_turns(host: SpeakerHost) -> None:
    answers = [answer async for answer in host.diarize(np.full(32_000, 2_000, np.int16), SpeakerCounts())]
    assert [answer for answer in answers if isinstance(answer, float)] == sorted(answers[:-1])  # type: ignore[type-var]
    assert answers[-1] == turns_in(np.full(32_000, 2_000, np.int16))


async def test_live_windows_go_first(host: SpeakerHost, ears: Ears) -> None:
    ears.go_on.clear()
    diarizing = asyncio.create_task(_collect(host))
    await asyncio.to_thread(ears.between.wait, 60)
    slow = threading.Event()
    real, ears.analyse = ears.analyse, lambda windows: (slow.wait(60), real(windows))[1]  # type: ignore[method-assign]
    listening = asyncio.create_task(host.listen([WINDOW]))
    await asyncio.sleep(0.05)
    ears.go_on.set()
    await asyncio.sleep(0.2)
    assert ears.batches == [0]  # the recording finished its batch and waits
    slow.set()
    await listening
    await diarizing
    assert ears.batches[:2] == [0, 1]


async def test_errors_are_answered_per_call(host: SpeakerHost, ears: Ears) -> None:
    ears.fail_with = RuntimeError("secret inside")
    with pytest.raises(InferenceError) as failed:
        await host.listen([WINDOW])
    assert "secret" not in str(failed.value)
    with pytest.raises(InferenceError):
        await _collect(host)
    ears.fail_with = ModelUnavailable("no weights here")
    with pytest.raises(ModelUnavailable, match="no weights"):
        await host.listen([WINDOW])
    ears.fail_with = None
    assert len(await host.listen([WINDOW])) == 1


@pytest.mark.parametrize("samples", [0, 160_001])
async def test_windows_of_a_wrong_length_are_refused(host: SpeakerHost, samples: int) -> None:
    with pytest.raises(InferenceError):
        await host.listen([SpeakerWindow(np.zeros(samples, np.int16))])


async def test_a_recording_that_nobody_waits_for_is_given_up(host: SpeakerHost, ears: Ears) -> None:
    ears.go_on.clear()
    answers = host.diarize(np.zeros(32_000, np.int16), SpeakerCounts())
    await anext(answers)
    await answers.aclose()  # type: ignore[attr-defined]
    ears.go_on.set()
    again = await asyncio.wait_for(_collect(host), 60)
    assert isinstance(again[-1], Diarization)
    assert ears.batches.count(0) < 8  # the first was ended at its next pause


async def _collect(host: SpeakerHost) -> list[float | Diarization]:
    return [answer async for answer in host.diarize(np.zeros(32_000, np.int16), SpeakerCounts())]


def watched(ears: Ears, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> SpeakerHost:
    monkeypatch.setattr(host_module.os, "nice", lambda _: 0)
    return SpeakerHost(
        status_of(Settings()), load_live=ears.load, load_recordings=ears.load, clip=WINDOW.audio, clock=clock
    )


async def checks(host: SpeakerHost, clock: FakeClock, seconds: float) -> None:
    """Health checks every 5 s; raises as they do."""
    for _ in range(round(seconds / 5)):
        clock.pass_s(5)
        host.check()
        if (task := host._idle_check._task) is not None:
            await asyncio.gather(task)


async def test_a_call_that_hangs_ends_for_its_callers(ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, hangs, asked = FakeClock(), threading.Event(), threading.Event()
    host = watched(ears, clock, monkeypatch)
    ears.analyse = lambda windows: (asked.set(), hangs.wait(60), analyse(windows))[2]  # type: ignore[method-assign]
    calls = [asyncio.create_task(host.listen([WINDOW])) for _ in range(2)]
    assert await asyncio.to_thread(asked.wait, 60)
    await checks(host, clock, host_module.LIVE_DEADLINE_S)
    with pytest.raises(ReplicaUnhealthy, match="a call with 1 windows has taken over 300 s"):
        await checks(host, clock, 5)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ReplicaUnhealthy] * 2
    assert host.waiting_audio_s == 0
    hangs.set()


async def test_a_recording_that_goes_on_has_all_the_time_it_needs(
    ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    host = watched(ears, clock, monkeypatch)
    told, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def slow(audio: Pcm16, counts: object, progress: Callable[[float], None], pause: object) -> Diarization:
        for step in range(3):
            progress(step / 3)
            told.release()
            assert go_on.acquire(timeout=60)
        return turns_in(audio)

    ears.diarize = slow  # type: ignore[method-assign]
    diarizing = asyncio.create_task(_collect(host))
    for _ in range(3):
        assert await asyncio.to_thread(told.acquire, timeout=60)
        await checks(host, clock, host_module.RECORDING_DEADLINE_S - 5)
        go_on.release()
    assert isinstance((await diarizing)[-1], Diarization)


async def test_an_analyser_that_hears_no_voice_any_more_is_found_out(
    ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    host = watched(ears, clock, monkeypatch)
    await checks(host, clock, 3 * host_module.CANARY_PERIOD_S)
    assert ears.batches == []  # nothing is loaded for it
    await host.listen([WINDOW])
    await checks(host, clock, 3 * host_module.CANARY_PERIOD_S)
    assert 3 <= len(ears.batches) <= 4
    ears.analyse = lambda windows: analyse([SpeakerWindow(np.zeros(16_000, np.int16)) for _ in windows])  # type: ignore[method-assign]
    with pytest.raises(ReplicaUnhealthy, match="no voice is heard"):
        await checks(host, clock, host_module.CANARY_PERIOD_S + 70)
