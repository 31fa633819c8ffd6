"""A recording that is taken up decodes only what is missing, and reads as if nothing had happened."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from serve_app.core.errors import InferenceError
from serve_app.core.jobs import DecodeJob, LanguageHint, Role
from serve_app.service.contract import RecordingOptions, RecordingTranscript
from serve_app.service.recordings import RecordingTranscriber
from serve_app.service.remembered import RememberedRecogniser, part_name


class Kept:
    """Parts of one recording, in memory."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}

    def recall(self, name: str) -> bytes | None:
        return self.parts.get(name)

    async def keep(self, name: str, body: bytes) -> None:
        self.parts[name] = body


def talk() -> np.ndarray:
    return speak([Say(n, ms=250, pause_ms=100 if n % 7 else 900) for n in range(1, 240)])


async def text_of(kept: Kept, recogniser: FakeRecogniser, options: RecordingOptions) -> RecordingTranscript:
    remembering = RememberedRecogniser(recogniser, kept)
    transcriber = RecordingTranscriber(voice=FakeVoice(), recogniser=remembering, max_windows_in_flight=2)
    return replace(await transcriber.transcribe(talk(), options), transcribe_s=0.0)


@pytest.mark.parametrize("language", ["en", None])
@pytest.mark.parametrize("seed", range(4))
async def test_work_that_is_lost_again_and_again_ends_with_the_same_text(
    seed: int, language: str | None
) -> None:
    options = RecordingOptions(language=language, word_timestamps=True)
    undisturbed = await text_of(Kept(), FakeRecogniser(), options)
    kept, chance = Kept(), random.Random(seed)
    num_decoded, num_lost = 0, 0
    while True:
        lives = chance.randrange(1, 4)
        recogniser = FakeRecogniser()

        def dies(job: DecodeJob, recogniser: FakeRecogniser = recogniser, lives: int = lives) -> bool:
            return len(recogniser.jobs) > lives

        recogniser.fails = dies
        try:
            transcript = await text_of(kept, recogniser, options)
        except InferenceError:
            num_lost += 1
            num_decoded = len(kept.parts)
            continue
        break
    assert num_lost > 1
    assert transcript == undisturbed
    assert num_decoded <= len(kept.parts)
    again = FakeRecogniser()
    assert await text_of(kept, again, options) == undisturbed
    assert again.jobs == []


async def test_a_failure_is_not_kept() -> None:
    kept = Kept()
    with pytest.raises(InferenceError):
        await text_of(kept, FakeRecogniser(fails=lambda job: True), RecordingOptions(language="en"))
    assert kept.parts == {}


def test_a_part_has_the_name_of_all_that_changes_its_text() -> None:
    job = DecodeJob(1, Role.RECORDING, np.arange(100, dtype=np.int16), "en")
    others = [
        replace(job, audio=np.arange(1, 101, dtype=np.int16)),
        replace(job, language="pt"),
        replace(job, language=None),
        replace(job, prompt="names"),
        replace(job, hotwords="names"),
        replace(job, beam_size=5),
        replace(job, temperature=0.2),
        replace(job, word_timestamps=True),
        replace(job, hint=LanguageHint((("pt", 2.0),))),
    ]
    names = {part_name(one) for one in (job, *others)}
    assert len(names) == len(others) + 1
    assert part_name(replace(job, job_id=7, audio=job.audio.copy())) == part_name(job)


async def test_results_answer_to_the_ids_they_were_asked_under() -> None:
    kept, job = Kept(), DecodeJob(1, Role.RECORDING, talk()[:32_000], "en")
    for job_id in (1, 99):
        remembering = RememberedRecogniser(FakeRecogniser(), kept)
        results = [result async for result in remembering.decode([replace(job, job_id=job_id)])]
        assert [result.job_id for result in results] == [job_id]
