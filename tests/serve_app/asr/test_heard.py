"""Words that an alignment stretched over a pause, put back to where they are spoken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.heard import sounding, where_heard
from serve_app.asr.whisper import WhisperTranscriber
from serve_app.audio.recordings import decode_recording
from serve_app.core.jobs import (
    DecodeJob,
    Role,
    Transcript,
    Word,
)
from serve_app.core.samples import Pcm16

GOLDEN = Path(__file__).parents[2] / "golden" / "files"
Speech = Callable[..., Pcm16]


def noise(seconds: float, level: float, seed: int = 0) -> Pcm16:
    samples: Pcm16 = np.random.default_rng(seed).normal(0, level, round(seconds * 16_000)).astype(np.int16)
    return samples


def talk(*parts: tuple[float, float]) -> Pcm16:
    """Seconds and levels, one behind the other."""
    return np.concatenate([noise(seconds, level, seed) for seed, (seconds, level) in enumerate(parts)])


def times(words: tuple[Word, ...]) -> list[tuple[float, float]]:
    return [(word.start_s, word.end_s) for word in words]


def words(*given: tuple[float, float]) -> list[Word]:
    return [Word(f" w{index}", start_s, end_s, 0.9) for index, (start_s, end_s) in enumerate(given)]


@pytest.mark.parametrize("level", [0, 3, 30, 100, 300])
@pytest.mark.parametrize("lead_s", [1.0, 10.0, 25.0])
def test_a_first_word_begins_where_it_sounds(level: float, lead_s: float) -> None:
    audio = talk((lead_s, level), (1.5, 3_000))
    heard = where_heard(words((0.0, lead_s + 0.4), (lead_s + 0.4, lead_s + 0.8)), audio)
    assert times(heard)[0] == (pytest.approx(lead_s, abs=0.1), lead_s + 0.4)
    assert times(heard)[1] == (lead_s + 0.4, lead_s + 0.8)


def test_a_pause_in_the_middle_belongs_to_no_word() -> None:
    audio = talk((0.8, 3_000), (5.0, 20), (0.8, 3_000))
    heard = where_heard(words((0.0, 0.4), (0.4, 3.0), (3.0, 6.2), (6.2, 6.6)), audio)
    assert times(heard) == [
        (0.0, 0.4),
        (0.4, pytest.approx(0.8, abs=0.1)),
        (pytest.approx(5.8, abs=0.1), 6.2),
        (6.2, 6.6),
    ]


def test_words_in_the_quiet_share_the_first_sound() -> None:
    audio = talk((10.0, 5), (1.0, 3_000))
    heard = where_heard(words((0.0, 0.2), (0.2, 0.6), (0.6, 10.6), (10.6, 11.0)), audio)
    starts = [start for start, _ in times(heard)]
    assert starts[0] == pytest.approx(9.95, abs=0.1)
    assert starts == sorted(starts)
    assert times(heard)[2][1] == 10.6


def test_a_long_word_over_loud_noise_is_no_longer_than_usual() -> None:
    audio = noise(12.0, 2_000)
    heard = where_heard(words((0.0, 10.4), (10.4, 10.8), (10.8, 11.2)), audio)
    assert times(heard)[0] == (pytest.approx(9.6), 10.4)


def test_words_of_usual_length_stay() -> None:
    audio = talk((2.0, 3_000), (0.3, 5), (2.0, 3_000))
    given = words((0.0, 0.4), (0.4, 1.1), (1.1, 1.9), (1.9, 2.6), (2.6, 4.2))
    assert where_heard(given, audio) == tuple(given)
    assert where_heard([], audio) == ()
    assert where_heard(given[:1], np.zeros(0, np.int16)) == tuple(given[:1])


@given(
    st.lists(st.floats(0, 3), min_size=1, max_size=12),
    st.lists(st.tuples(st.floats(0.0, 2.0), st.sampled_from([0, 5, 200, 3_000])), min_size=1, max_size=8),
)
def test_words_stay_in_order_and_in_their_places(
    lengths: list[float], parts: list[tuple[float, float]]
) -> None:
    edges = np.round(np.cumsum([0.0, *lengths]), 2)
    before = words(*zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    after = where_heard(before, talk(*parts))
    flat = [time for word in times(after) for time in word]
    assert flat == sorted(flat)
    assert [word.word for word in after] == [word.word for word in before]
    assert flat[0] >= 0
    assert flat[-1] <= edges[-1] + 1e-6


def test_where_there_is_sound() -> None:
    start, end = sounding(talk((10.0, 5), (1.0, 3_000), (4.0, 5)))
    assert (start / 16_000, end / 16_000) == (pytest.approx(10, abs=0.1), pytest.approx(11, abs=0.1))
    assert sounding(noise(3.0, 500)) == (0, 48_000)
    assert sounding(np.zeros(0, np.int16)) == (0, 0)
    assert sounding(np.zeros(16_000, np.int16)) == (0, 16_000)


@pytest.mark.models
@pytest.mark.parametrize("name", ["tiny", "base"])
@pytest.mark.parametrize("level", [0, 3, 100])
def test_ten_seconds_of_near_silence(request: pytest.FixtureRequest, name: str, level: float) -> None:
    engine: WhisperTranscriber = request.getfixturevalue(name)
    audio = decode_recording(GOLDEN / "t12_ten.flac").samples.copy()
    audio[:160_000] += noise(10.0, level)
    heard = engine.transcribe([DecodeJob(0, Role.RECORDING, audio, "en", word_timestamps=True)])[0]
    assert isinstance(heard, Transcript)
    assert heard.text == "Please call the pharmacy before noon."
    assert heard.words[0].start_s == pytest.approx(10.5, abs=0.1)
    assert heard.words[-1].end_s == pytest.approx(12.4, abs=0.4)
