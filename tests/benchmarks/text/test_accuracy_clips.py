"""Which recordings the accuracy benchmark takes from a folder, and how it scores other languages."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.clips import Clip, Turn, cut_behind_turn, load_clips, select_clips
from benchmarks.scoring import WordErrors, normalise, word_errors

TURNS = (Turn(0.1, 0.4, "one"), Turn(0.5, 0.8, "two three"), Turn(1.2, 1.9, "four"))


def write_folder(folder: Path, entries: list[dict[str, Any]], *, under_audio: bool = True) -> None:
    for entry in entries:
        path = folder / entry["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(bytes(2 * 16_000 * entry.pop("length", 1)))
    (folder / "MANIFEST.json").write_text(json.dumps({"audio": entries} if under_audio else entries))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entries = [
        {"file": "de/c.wav", "text": "eins", "language": "de"},
        {"file": "en/a.wav", "text": "one", "language": "en"},
        {"file": "en/b.wav", "text": "two", "language": "en"},
        {"file": "noise.wav", "text": None, "language": "none"},
        {"file": "x.wav", "text": "un"},
    ]
    write_folder(tmp_path, entries)
    return tmp_path


def names(clips: list[Clip]) -> list[tuple[str, str]]:
    return [(clip.name, clip.language) for clip in clips]


def test_a_list_under_audio_with_folders_and_languages(folder: Path) -> None:
    assert names(select_clips(folder)) == [("c", "de"), ("a", "en"), ("b", "en"), ("x", "en")]
    assert names(load_clips(folder)) == names(select_clips(folder))


def test_only_some_languages(folder: Path) -> None:
    assert names(select_clips(folder, languages=["de"])) == [("c", "de"), ("x", "de")]
    assert names(select_clips(folder, languages=["en", "de"], max_per_language=1)) == [
        ("c", "de"),
        ("a", "en"),
    ]
    with pytest.raises(ValueError, match="holds no recording"):
        select_clips(folder / "de", languages=["fr"])


def test_all_committed_recordings_by_default() -> None:
    clips = select_clips()
    assert {"visit", "dictation", "short_0"} <= {clip.name for clip in clips}
    assert all(clip.language == "en" and clip.turns for clip in clips)
    assert len(clips) == 10


def test_long_clips_are_cut_behind_a_turn_or_left_out(tmp_path: Path) -> None:
    turns = [{"start": 0.0, "end": 0.8, "text": "one two"}, {"start": 1.0, "end": 1.9, "text": "three"}]
    entries = [
        {"file": "long.wav", "text": "one two three", "length": 2, "turns": turns},
        {"file": "opaque.wav", "text": "one two three", "length": 2},
        {"file": "short.wav", "text": "four"},
    ]
    write_folder(tmp_path, entries, under_audio=False)
    clips = select_clips(tmp_path, max_seconds=1.5)
    assert [(clip.name, clip.text, round(clip.duration_s, 3)) for clip in clips] == [
        ("long", "one two", 0.9),
        ("short", "four", 1.0),
    ]


@pytest.mark.parametrize(
    ("max_seconds", "cut"),
    [(2.0, (2.0, "one two three four")), (1.9, (1.9, "one two three four")), (1.5, (1.0, "one two three"))]
    + [(0.85, (0.85, "one two three")), (0.5, (0.45, "one"))],
)
def test_where_a_clip_is_cut(max_seconds: float, cut: tuple[float, str]) -> None:
    clip = Clip("a", np.zeros(32_000, np.int16), "one two three four", "en", TURNS)
    found = cut_behind_turn(clip, max_seconds)
    assert found is not None
    assert (pytest.approx(found.duration_s), found.text) == cut


def test_a_clip_that_cannot_be_cut() -> None:
    samples = np.zeros(32_000, np.int16)
    assert cut_behind_turn(Clip("a", samples, "one", "en", TURNS), 0.3) is None
    assert cut_behind_turn(Clip("a", samples, "one"), 1.0) is None


def test_other_languages_keep_their_words_and_lose_case_and_punctuation() -> None:
    assert normalise("Größe: ZWANZIG, don't!", "de") == "größe zwanzig don t"
    assert normalise("zwanzig", "de") == "zwanzig"
    assert normalise("twenty") == "20"
    assert normalise("你好。", "zh") == "你 好"
    assert word_errors(["Größe eins"], ["grösse eins"], "de") == WordErrors(2, 1, 0, 0)


def test_errors_add_up() -> None:
    assert WordErrors(1, 2, 3, 4) + WordErrors(10, 20, 30, 40) == WordErrors(11, 22, 33, 44)
