"""A transcriber and a recogniser on an engine whose memory is small."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes.fake_transcriber import fake_info
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.failed_batches import BatchCap, decode_isolated, try_largest_batch
from serve_app.asr.features import FloatArray
from serve_app.asr.folder import open_model_folder
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.asr.windows import WindowPolicy
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    Role,
    Transcript,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

Speech = Callable[..., Pcm16]


class SmallEngine(CTranslate2Engine):
    """Holds at most so many frames of a batch."""

    max_frames = 10**9

    def encode(self, features: FloatArray) -> FloatArray:
        if features.shape[0] * features.shape[2] > self.max_frames:
            raise RuntimeError("CUDA failed with error out of memory")
        return super().encode(features)


@pytest.fixture
def engine(tiny_folder: Path) -> SmallEngine:
    return SmallEngine(tiny_folder, device="cpu")


def transcriber_on(engine: SmallEngine, folder: Path, **more: Any) -> WhisperTranscriber:
    windows = {Role.FINAL: WindowPolicy(bucket_frames=200)}
    options = TranscriberOptions(windows=windows)
    return WhisperTranscriber("tiny.en", engine, open_model_folder(folder), options, **more)


@pytest.mark.models
async def test_texts_are_those_of_a_card_that_holds_everything(
    engine: SmallEngine, tiny_folder: Path, speech: Speech
) -> None:
    starts = (0.4, 4.2, 8.3, 11.7, 15.7)
    jobs = [
        DecodeJob(n, Role.FINAL, speech("visit.flac", start, start + 3.4), "en", word_timestamps=True)
        for n, start in enumerate(starts)
    ]
    too_long = DecodeJob(9, Role.FINAL, speech("visit.flac", 0, 20), "en")
    transcriber = transcriber_on(engine, tiny_folder)
    whole = transcriber.transcribe(jobs)
    assert {result.timing.batch_size for result in whole if isinstance(result, Transcript)} == {5}

    engine.max_frames = 1_000  # two windows of four seconds, and half of the long one
    recogniser = Recogniser(
        {Role.FINAL: transcriber}, SchedulerLimits(num_workers=1, max_batch={Role.FINAL: 8})
    )
    found = {result.job_id: result async for result in recogniser.decode([*jobs, too_long])}
    recogniser.check()
    await recogniser.close()

    for one in whole:
        other = found[one.job_id]
        assert isinstance(one, Transcript)
        assert isinstance(other, Transcript)
        assert other.timing.batch_size <= 2
        assert (one.text, [word.word for word in one.words]) == (
            other.text,
            [word.word for word in other.words],
        )
    failure = found[9]
    assert isinstance(failure, DecodeFailure)
    assert "ran out of memory" in failure.message
    assert not failure.retryable


@pytest.mark.models
def test_an_engine_that_cannot_encode_at_all_is_no_model(engine: SmallEngine, tiny_folder: Path) -> None:
    engine.max_frames = 100
    with pytest.raises(ModelUnavailable, match=r"tiny.en cannot encode: .*out of memory"):
        transcriber_on(engine, tiny_folder)


# -- the largest batch, tried---------------------------------------------------------------------------


class HoldingTranscriber:
    """Holds so many items at once; its clock stands still."""

    def __init__(self, holds: int) -> None:
        self.info = fake_info("held")
        self.holds = holds
        self.now_s = 0.0
        self.cap = BatchCap(clock=lambda: self.now_s)
        self.audio_s: set[float] = set()

    def batch_key(self, job: DecodeJob) -> int:
        return 0

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        self.audio_s |= {len(job.audio) / SAMPLE_RATE_HZ for job in jobs}
        return decode_isolated(jobs, self._decode, self._fail, self.cap)

    def _decode(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        if len(jobs) > self.holds:
            raise MemoryError
        return [Transcript(job.job_id, "", "en", 1.0, 0.0, 0.0, "held") for job in jobs]

    @staticmethod
    def _fail(job: DecodeJob, ran_out: bool) -> DecodeResult:
        return DecodeFailure(job.job_id, "no", retryable=not ran_out)

    def warm_up(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(("holds", "kept"), [(8, 8), (7, 4), (3, 2), (1, 1)])
def test_the_largest_batch_is_tried_and_what_fits_is_kept_to(holds: int, kept: int) -> None:
    transcriber = HoldingTranscriber(holds)
    try_largest_batch(transcriber, 8)
    assert transcriber.audio_s == {30.0}
    transcriber.now_s = 1e6
    assert transcriber.cap.size(8) == kept


def test_a_card_that_does_not_hold_one_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="held runs out of memory on a batch of one"):
        try_largest_batch(HoldingTranscriber(0), 8)
