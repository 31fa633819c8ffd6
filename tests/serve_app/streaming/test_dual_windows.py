"""Windows of interims that begin among the stable words: what is asked for, and that no word is lost or said
twice where they meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.ports import TranscriberInfo
from serve_app.core.jobs import DecodeJob, DecodeResult, Role, Transcript, Word
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.service.replay import ReplayOptions, replay_utterance
from serve_app.session.utterance import draft_of
from serve_app.streaming.dual import LONG_WINDOW_S, NUM_OVERLAPPING_WORDS, DualPolicy

WORD_S = 0.4
WORD_SAMPLES = round(WORD_S * SAMPLE_RATE_HZ)
LONGEST = 8 * SAMPLE_RATE_HZ


def spoken(num_words: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Every sample of a word holds its number."""
    return np.repeat(np.arange(num_words, dtype=np.int16), WORD_SAMPLES)


class Reader:
    """Hears each word of which it is given more than half."""

    info = TranscriberInfo("reader", "own", "cpu", "int8", False, frozenset({"en"}), "")

    def __init__(self, words: Sequence[str], *, with_times: bool = True) -> None:
        self.words = words
        self.with_times = with_times
        self.asked: list[DecodeJob] = []

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        (job,) = jobs
        self.asked.append(job)
        numbers, starts, counts = np.unique(job.audio, return_index=True, return_counts=True)
        found = [
            Word(f" {self.words[number]}", start / SAMPLE_RATE_HZ, (start + count) / SAMPLE_RATE_HZ, 1.0)
            for number, start, count in zip(numbers, starts, counts, strict=True)
            if count > WORD_SAMPLES / 2
        ]
        text = "".join(word.word for word in found).strip()
        times = tuple(found) if job.word_timestamps and self.with_times else ()
        return [Transcript(0, text, "en", 1.0, 0.0, 0.0, "reader", times)]


@given(st.lists(st.sampled_from(["a", "b", "c", "to", "be"]), min_size=1, max_size=70))
def test_no_word_is_lost_or_said_twice_where_windows_meet(words: list[str]) -> None:
    reader = Reader(words)
    replay = replay_utterance(
        {Role.INTERIM: reader, Role.FINAL: reader},  # type: ignore[dict-item]
        spoken(len(words)),
        "en",
        ReplayOptions(step_s=WORD_S),
    )
    for shown in replay.shown:
        so_far = words[: shown.end_sample // WORD_SAMPLES]
        assert shown.text.text == " ".join(so_far)
        # A word is stable when it was read twice and is not the last.
        assert shown.text.stable_chars == len(" ".join(so_far[:-1]))
    *interims, final = reader.asked
    assert all(job.audio_s <= LONG_WINDOW_S + 2 * WORD_S for job in interims)
    assert final.draft == " ".join(words[:-1])
    for job in interims[1:]:
        # The draft is what the window is about to say, but for its newest word.
        heard = [words[number] for number in np.unique(job.audio)]
        assert job.draft == " ".join(heard[:-1])


@given(st.integers(1, 70))
def test_without_times_the_window_is_the_newest_seconds(num_words: int) -> None:
    reader = Reader([f"w{number}" for number in range(num_words)], with_times=False)
    models = {Role.INTERIM: reader, Role.FINAL: reader}
    replay = replay_utterance(models, spoken(num_words), "en", ReplayOptions(step_s=WORD_S))  # type: ignore[arg-type]
    for shown, job in zip(replay.shown, reader.asked, strict=False):
        assert len(job.audio) == min(shown.end_sample, LONGEST)
        assert shown.text.text == " ".join(reader.words[: shown.end_sample // WORD_SAMPLES])


def transcript(text: str, *, timed: bool = True) -> Transcript:
    words = tuple(
        Word(f" {word}", index * WORD_S, (index + 1) * WORD_S, 1.0) for index, word in enumerate(text.split())
    )
    return Transcript(0, text, "en", 1.0, 0.0, 0.0, "m", words if timed else ())


def test_times_are_asked_for_when_the_window_is_long() -> None:
    policy = DualPolicy(1000)
    edge = 1000 + round(LONG_WINDOW_S * SAMPLE_RATE_HZ)
    assert not policy.ask_interim(edge, LONGEST).word_timestamps
    assert policy.ask_interim(edge + 1, LONGEST).word_timestamps


def test_the_next_window_begins_at_the_last_stable_words() -> None:
    policy, text = DualPolicy(1000), "one two three four five six seven eight"
    for _ in range(2):
        ask = policy.ask_interim(1000 + 8 * WORD_SAMPLES, LONGEST)
        policy.take(transcript(text), ask, 1000 + 8 * WORD_SAMPLES)
    # All but the last are stable.
    kept = 1 + NUM_OVERLAPPING_WORDS
    ask = policy.ask_interim(1000 + 9 * WORD_SAMPLES, LONGEST)
    assert ask.start_sample == 1000 + (8 - kept) * WORD_SAMPLES
    assert ask.before == "one two three four"
    assert draft_of(ask, transcript(text)) == "five six seven eight"
    assert policy.ask_final().start_sample == 1000
    assert draft_of(policy.ask_final(), transcript(text)) == text
    # Under load windows are shorter than what would be kept.
    short = policy.ask_interim(1000 + 9 * WORD_SAMPLES, WORD_SAMPLES)
    assert (short.start_sample, short.before) == (1000 + 8 * WORD_SAMPLES, "")


def test_words_that_are_not_the_text_s_own_move_nothing() -> None:
    policy, text = DualPolicy(0), "one two three four five six seven eight"
    for end in (8, 9):
        ask = policy.ask_interim(end * WORD_SAMPLES, LONGEST)
        policy.take(transcript(text, timed=end == 8), ask, end * WORD_SAMPLES)
    assert policy.ask_interim(10 * WORD_SAMPLES, LONGEST).start_sample == 0
    other = transcript(text + " nine")
    ask = policy.ask_interim(10 * WORD_SAMPLES, LONGEST)
    policy.take(Transcript(0, text, "en", 1.0, 0.0, 0.0, "m", other.words), ask, 10 * WORD_SAMPLES)
    assert policy.ask_interim(11 * WORD_SAMPLES, LONGEST).start_sample == 0
