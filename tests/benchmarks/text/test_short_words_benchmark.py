import numpy as np
import pytest

from benchmarks.clips import Clip, Turn
from benchmarks.text.short_words import cut_at_pauses, pieces_of
from serve_app.asr.heard import room_tone
from serve_app.core.samples import Pcm16


def speech(seconds: float, *pauses_s: float) -> Pcm16:
    """Noise with half a second of silence about each pause."""
    samples = np.random.default_rng(1).integers(-9000, 9000, round(seconds * 16_000)).astype(np.int16)
    for pause_s in pauses_s:
        samples[round((pause_s - 0.25) * 16_000) : round((pause_s + 0.25) * 16_000)] = 0
    return samples


def test_cuts_are_in_the_pauses() -> None:
    samples = speech(35, 7.0, 15.5, 26.0)
    pieces = cut_at_pauses(samples)
    assert np.array_equal(np.concatenate(pieces), samples)
    ends_s = np.cumsum([len(piece) for piece in pieces]) / 16_000
    assert ends_s[:3] == pytest.approx([7.0, 15.5, 26.0], abs=0.25)
    assert all(len(piece) <= 12 * 16_000 for piece in pieces)


def test_only_long_clips_are_cut() -> None:
    short = Clip("short", speech(29.9), "a b")
    assert [len(piece) for piece in pieces_of(short)] == [len(short.samples)]
    assert len(pieces_of(Clip("long", speech(31), "a b"))) > 2


def test_long_clips_are_cut_into_their_turns() -> None:
    turns = (Turn(0.1, 9.0, "a"), Turn(10.0, 30.95, "b"))
    first, second = pieces_of(Clip("turns", speech(31), "a b", turns=turns))
    assert len(first) == round(9.2 * 16_000)
    assert len(second) == round((31 - 9.8) * 16_000)


def test_room_tone_is_30_s_of_its_level_and_always_the_same() -> None:
    tone = room_tone(30.0, 0.001)
    assert len(tone) == 480_000
    assert np.std(tone) == pytest.approx(32.8, rel=0.02)
    assert np.array_equal(tone, room_tone(30.0, 0.001))
    assert not room_tone(30.0, 0.0).any()
