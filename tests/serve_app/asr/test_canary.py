"""What a model has to write of a known clip, and what becomes of one that does not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.fake_time import FakeClock
from fakes.fake_transcriber import FakeTranscriber, fake_info
from serve_app.asr.canary import Canary, CanaryOf, likeness
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.audio.sample import SAMPLE_TEXT
from serve_app.core.errors import ModelUnavailable, ReplicaUnhealthy
from serve_app.core.idle_check import IDLE_PERIOD_S
from serve_app.core.jobs import DecodeFailure, DecodeJob, DecodeResult, Role, Transcript

CANARY = Canary(np.ones(16_000, np.int16), SAMPLE_TEXT, "en")
RIGHT = Transcript(-1, SAMPLE_TEXT, "en", 1.0, -0.1, 0.0, "fake", confidence=0.9)


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (RIGHT, ""),
        (
            replace(
                RIGHT,
                text=" it was raining when we left the Station so we took a taxi to an old hotel by a river",
            ),
            "",
        ),
        (replace(RIGHT, text="It was"), "likeness"),
        (replace(RIGHT, text="Thank you. Thank you. Thank you."), "likeness 0.00"),
        (replace(RIGHT, text=" "), "no text"),
        (replace(RIGHT, avg_logprob=math.nan), "not numbers"),
        (replace(RIGHT, no_speech_prob=math.inf), "not numbers"),
        (DecodeFailure(-1, "the model failed on this audio", retryable=True), "cannot be decoded"),
    ],
)
def test_complaints(result: DecodeResult, complaint: str) -> None:
    found = CanaryOf(CANARY, exact=True).complaint(result)
    assert complaint in found
    assert bool(found) == bool(complaint)


@given(st.text())
def test_a_complaint_never_holds_what_was_decoded(text: str) -> None:
    found = CanaryOf(CANARY, exact=True).complaint(replace(RIGHT, text="qqq" + text))
    assert "qqq" not in found


@given(st.text(), st.text())
def test_likeness_is_a_share(one: str, other: str) -> None:
    assert 0 <= likeness(one, other) <= 1
    assert likeness(one, one) == 1


def test_the_first_decode_of_a_model_that_must_know_the_clip() -> None:
    right = FakeTranscriber(script=lambda job: SAMPLE_TEXT)
    assert CANARY.first(right, Role.FINAL).exact
    with pytest.raises(ModelUnavailable, match="'fake' is of no use: a known clip has no text"):
        CANARY.first(FakeTranscriber(script=lambda job: ""), Role.FINAL)


def test_a_model_of_another_kind_has_to_answer_in_numbers_only() -> None:
    unsure = replace(CANARY, must_know=False)
    assert not unsure.first(FakeTranscriber(script=lambda job: "woof"), Role.FINAL).exact
    german = FakeTranscriber(fake_info(languages=["de"]), script=lambda job: "Fuchs")
    assert not CANARY.first(german, Role.FINAL).exact
    assert CANARY.job(german, Role.FINAL).language == "de"


class Turning(FakeTranscriber):
    """Writes the clip's text until `turns` to something else."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Callable[[Transcript], DecodeResult] = lambda right: right

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        super().transcribe(jobs)
        return [self.turns(replace(RIGHT, job_id=job.job_id)) for job in jobs]


async def checks(recogniser: Recogniser, clock: FakeClock, seconds: float) -> None:
    """Health checks every 5 s; raises as they do."""
    for _ in range(round(seconds / 5)):
        clock.pass_s(5)
        recogniser.check()
        if (task := recogniser._idle_check._task) is not None:
            await asyncio.gather(task)


@pytest.mark.parametrize(
    "turns",
    [
        lambda right: replace(right, text="ah ah ah ah"),
        lambda right: replace(right, avg_logprob=math.nan),
        lambda right: DecodeFailure(right.job_id, "the model failed on this audio", retryable=True),
    ],
    ids=["garbage", "not a number", "failure"],
)
async def test_an_idle_model_that_turns_bad_is_found_out(
    turns: Callable[[Transcript], DecodeResult],
) -> None:
    engine, clock = Turning(), FakeClock()
    limits = SchedulerLimits(num_workers=2)
    recogniser = Recogniser(
        {Role.FINAL: engine}, limits, canaries={Role.FINAL: CANARY.first(engine, Role.FINAL)}, clock=clock
    )
    await checks(recogniser, clock, 5 * IDLE_PERIOD_S)
    assert len(engine.batches) == 1 + 5  # the first decode, then one a minute
    engine.turns = turns
    with pytest.raises(ReplicaUnhealthy, match="known clip"):
        await checks(recogniser, clock, IDLE_PERIOD_S + 10)
    with pytest.raises(ReplicaUnhealthy):
        await recogniser.submit(DecodeJob(1, Role.FINAL, np.ones(1600, np.int16), "en"))
    await recogniser.close()


async def test_batches_that_fail_without_one_text_are_reason_enough_to_look() -> None:
    engine, clock = Turning(), FakeClock()
    canary = CANARY.first(engine, Role.FINAL)
    recogniser = Recogniser({Role.FINAL: engine}, canaries={Role.FINAL: canary}, clock=clock)
    engine.turns = lambda right: DecodeFailure(right.job_id, "the model failed", retryable=True)
    for number in range(3):
        await recogniser.submit(DecodeJob(number, Role.FINAL, np.ones(1600, np.int16), "en"))
    with pytest.raises(ReplicaUnhealthy):
        await checks(recogniser, clock, 15)
    await recogniser.close()


@pytest.mark.models
@pytest.mark.parametrize("name", ["tiny.en", "base"])
def test_our_own_models_know_the_clip(name: str) -> None:
    from serve_app.assembly.recognisers import load_recogniser
    from serve_app.settings import Settings

    recogniser = load_recogniser(Settings(model=name), (Role.FINAL, Role.INTERIM), shares_cores=True)
    assert [canary.exact for canary in recogniser._canaries.values()] == [True]
