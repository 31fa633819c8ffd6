"""What the benchmark of engines makes of replays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.engines import (
    Contender,
    Counted,
    Figures,
    TimedEngine,
    cells_of,
    measure_clip,
    parse_arguments,
    row_of,
)
from serve_app.asr.engines.base import Hypothesis
from serve_app.asr.ports import TranscriberInfo
from serve_app.capacity.processor import this_processor
from serve_app.core.jobs import DecodeJob, DecodeResult, Role, Transcript, Word
from serve_app.core.samples import SAMPLE_RATE_HZ

WORDS = ("red", "green", "blue", "black", "white", "brown")
"""Each takes half a second."""


class Reader:
    """Reads a word in every half second of audio, whose samples all hold the number of their half second."""

    info = TranscriberInfo("reader", "own", "cpu", "int8", False, frozenset({"en"}), "")

    def __init__(self, timed: TimedEngine) -> None:
        self.timed = timed
        self.drafts: list[str] = []

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        (job,) = jobs
        self.drafts.append(job.draft)
        numbers = job.audio[SAMPLE_RATE_HZ // 4 :: SAMPLE_RATE_HZ // 2]
        self.timed.generate(1 + len(numbers) - len(job.draft.split()))
        self.timed.encode()
        words = [WORDS[number] for number in numbers]
        times = tuple(Word(f" {word}", i / 2, i / 2 + 0.5, 1.0) for i, word in enumerate(words))
        return [Transcript(0, " ".join(words), "en", 1.0, 0.0, 0.0, "reader", times)]


class CountedEngine:
    def encode(self) -> None:
        """Costs nothing."""

    def generate(self, num_calls: int) -> list[Hypothesis]:
        return [Hypothesis((), 0.0, 9, 0.0, True, num_calls=num_calls)]


@pytest.fixture
def clip() -> Clip:
    numbers = np.repeat(np.arange(6, dtype=np.int16), SAMPLE_RATE_HZ // 2)
    return Clip("colours", numbers, "Red green blue black white GOLD.")


def test_a_row_says_what_drafts_save(clip: Clip) -> None:
    counted = Counted()
    timed = TimedEngine(CountedEngine(), counted)  # type: ignore[arg-type]
    reader = Reader(timed)
    contender = Contender("own", "reader", {Role.FINAL: reader, Role.INTERIM: reader}, counted)  # type: ignore[dict-item]
    figures = Figures()
    measure_clip(contender, clip, "dual", figures)
    assert reader.drafts == [
        "",
        "red",
        "red green",
        "red green blue",
        "red green blue black",
        " ".join(WORDS[:5]),
        "",
    ]
    row = row_of(contender, "dual", figures)
    assert (row["calls_per_interim"], row["calls_per_drafted_final"], row["calls_per_final"]) == (
        2.0,
        2.0,
        7.0,
    )
    assert (row["num_errors"], row["num_words"]) == ({"en": 1}, {"en": 6})
    assert (row["num_finals"], row["num_finals_that_differ"], row["retractions"]) == (1, 0, 0)
    assert row["flicker"] == 0.0
    assert row["audio_s"] == 3.0
    assert "1 of 6 en" in cells_of(row)


def test_words_are_committed_when_two_interims_agree(clip: Clip) -> None:
    counted = Counted()
    timed = TimedEngine(CountedEngine(), counted)  # type: ignore[arg-type]
    reader = Reader(timed)
    figures = Figures()
    contender = Contender("own", "reader", {Role.FINAL: reader, Role.INTERIM: reader}, counted)  # type: ignore[dict-item]
    measure_clip(contender, clip, "dual", figures)
    # A word is said in half a second, repeated half a second later and no longer the last one: 0.5 s, and
    # the last two come with the final.
    assert figures.text.commit_lag_ms == pytest.approx([500, 500, 500, 500, 500, 0], abs=50)


def test_a_language_that_finals_do_not_know_is_left_out(clip: Clip) -> None:
    counted = Counted()
    timed = TimedEngine(CountedEngine(), counted)  # type: ignore[arg-type]
    reader = Reader(timed)
    contender = Contender("own", "reader", {Role.FINAL: reader, Role.INTERIM: reader}, counted)  # type: ignore[dict-item]
    figures = Figures()
    measure_clip(contender, Clip("farben", clip.samples, "rot grün", "de"), "dual", figures)
    assert (figures.audio_s, reader.drafts) == (0.0, [])


def test_a_policy_that_is_not_there_is_refused() -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--policies", "sometimes"])


def test_the_processor_is_named_with_what_engines_use_of_it(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Own 9000\nflags\t\t: fpu avx2 avx512_vnni avx sse\n\n"
        "processor\t: 1\nmodel name\t: Another\n"
    )
    found = this_processor(cpuinfo)
    assert (found.name, found.instructions) == ("Own 9000", ("avx", "avx2", "avx512_vnni"))
    assert "avx2 avx512_vnni" in str(found)
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert this_processor(cpuinfo).instructions == ("asimd", "asimddp")
    nowhere = this_processor(tmp_path / "none")
    assert nowhere.name
    assert nowhere.instructions == ()
