from dataclasses import replace

import numpy as np
import pytest

from benchmarks.clips import SPOKEN_DIR, Clip, Turn, select_clips
from benchmarks.scoring import WordErrors
from benchmarks.text import short_context
from benchmarks.text.short_context import (
    SETTINGS,
    Decoded,
    Row,
    Setting,
    ShortContext,
    clips_that_differ,
    cut_at_pauses,
    measure,
    noisy,
    pieces_of,
    quiet,
)
from serve_app.asr.heard import room_tone
from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import Pcm16
from serve_app.models import resolve_model

TONE = next(setting for setting in SETTINGS if setting.tone)


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


def test_noise_is_as_weak_as_it_should_be() -> None:
    samples = (8000 * np.sin(np.arange(32_000) / 20)).astype(np.int16)
    added = noisy(samples, seed=3).astype(np.float64) - samples
    snr_db = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) / np.mean(added**2))
    assert snr_db == pytest.approx(10, abs=0.1)
    assert not np.array_equal(noisy(samples, seed=4), noisy(samples, seed=3))
    low, high = np.split(np.abs(np.fft.rfft(added)) ** 2, [4000], axis=0)
    assert low.mean() > 2 * high.mean()


def test_quiet_is_a_tenth() -> None:
    assert quiet(np.array([1000, -1000, 32767], np.int16)).tolist() == [100, -100, 3277]


def test_room_tone_is_30_s_of_its_level_and_always_the_same() -> None:
    tone = room_tone(30.0, 0.001)
    assert len(tone) == 480_000
    assert np.std(tone) == pytest.approx(32.8, rel=0.02)
    assert np.array_equal(tone, room_tone(30.0, 0.001))
    assert not room_tone(30.0, 0.0).any()


def row(name: str, errors: tuple[int, ...], encode_s: float) -> Row:
    return Row(name, WordErrors(40, sum(errors), 0, 0), errors, encode_s, 1.0, 0, 0.0)


def test_measure_joins_the_pieces_of_a_clip() -> None:
    clips = [Clip("a", speech(1), "the old hotel"), Clip("b", speech(1), "river")]
    texts = iter(["the old", "motel", "river side"])
    pieces = [[speech(0.5)] * 2, [speech(1)]]
    measured = measure("x", clips, pieces, "en", lambda _: Decoded(next(texts), 0.5, 0.25, redone=True))
    assert measured.total == WordErrors(4, 1, 0, 1)
    assert measured.errors == (1, 1)
    assert (measured.encode_s, measured.decode_s) == (1.5, 0.75)
    assert (measured.ran_on, measured.redone) == (0, 1.0)


def test_more_errors_are_told_by_clip_and_by_halves() -> None:
    clips = [Clip(name, speech(1), "a") for name in "abcd"]
    ours, peer = row("ours", (2, 0, 1, 3), 0.5), row("peer", (0, 1, 1, 2), 5.0)
    assert clips_that_differ(clips, ours, peer) == [
        {"clip": "a", "more_errors": 2},
        {"clip": "b", "more_errors": -1},
        {"clip": "d", "more_errors": 1},
    ]
    told = short_context.summary(ours, peer)
    assert (told["more_errors"], told["more_errors_by_halves"]) == (2, [2, 0])
    assert (told["wer"], told["encode_ratio"]) == (0.15, 0.1)


def test_settings_are_told_apart_by_their_names() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)
    with pytest.raises(SystemExit):
        short_context.parse_arguments(["--settings", "no such"])


@pytest.fixture(scope="module")
def tiny() -> ShortContext:
    try:
        resolve_model("tiny.en", offline=True)
    except ModelUnavailable as error:
        pytest.skip(f"the model tiny.en is not installed: {error}")
    return ShortContext("tiny.en", "en")


@pytest.mark.models
@pytest.mark.parametrize("setting", [SETTINGS[0], TONE], ids=lambda setting: setting.name)
def test_a_short_context_reads_what_the_full_window_reads(tiny: ShortContext, setting: Setting) -> None:
    clip = next(clip for clip in select_clips(SPOKEN_DIR) if clip.name == "short_1")
    decoded = tiny.decode(clip.samples, setting)
    assert "quick brown fox jumps over the lazy" in decoded.text
    assert decoded.encode_s > 0
    assert not decoded.ran_on
    assert not decoded.redone


@pytest.mark.models
def test_doubt_is_redone_in_the_full_window(tiny: ShortContext) -> None:
    clip = next(clip for clip in select_clips(SPOKEN_DIR) if clip.name == "short_1")
    sure = replace(TONE, redo_below=0.0)
    assert tiny.decode(clip.samples, sure).redone
