import json
import wave
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import Clip, SessionPlan, load_clips, session_plans, start_delays_s
from benchmarks.text.recordings import write_recording


def clip(name: str, seconds: float) -> Clip:
    return Clip(name, np.full(round(16_000 * seconds), 7, np.int16), f"words of {name}")


def test_the_committed_dialogues() -> None:
    clips = load_clips()
    assert [clip.name for clip in clips] == ["visit", "ward_round", "phone_call"]
    assert all(clip.duration_s > 20 and clip.text for clip in clips)


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(bytes(3200))
    (tmp_path / "MANIFEST.json").write_text(json.dumps([{"file": "a.wav", "text": "from the list"}]))
    (tmp_path / "b.txt").write_text("from the file\n")
    clips = load_clips(tmp_path)
    assert [(clip.name, clip.text, len(clip.samples)) for clip in clips] == [
        ("a", "from the list", 1600),
        ("b", "from the file", 1600),
    ]


def test_a_folder_without_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no recording"):
        load_clips(tmp_path)


def test_plans_are_whole_clips_long_enough_and_neighbours_differ() -> None:
    clips = [clip("a", 40), clip("b", 30), clip("c", 20)]
    plans = session_plans(clips, 7, 60)
    names = [plan.name for plan in plans]
    assert names == ["a+b", "b+c+a", "c+a", "a+c", "b+a", "c+b+a", "a+b"]
    assert plans[0].text == "words of a words of b"
    assert len(plans[0].samples()) == 71 * 16_000
    assert not plans[0].samples()[-16_000:].any()


def test_one_clip_alone() -> None:
    assert [plan.name for plan in session_plans([clip("a", 10)], 2, 15)] == ["a+a", "a+a"]


def test_starts_are_spread_over_the_ramp() -> None:
    delays = start_delays_s(24, 4.0)
    gaps = np.diff(delays)
    assert delays == sorted(delays)
    assert delays[0] >= 0
    assert delays[-1] < 4.0
    assert gaps.max() < 0.5
    assert gaps.min() > 0.02


def test_write_recording(tmp_path: Path) -> None:
    text = write_recording(tmp_path / "x.wav", [clip("a", 1), clip("b", 2)], 3.5)
    assert text == "words of a words of b words of a"
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getnframes(), file.getframerate()) == (4 * 16_000, 16_000)


def test_a_plan_of_no_clips_is_a_second_of_silence() -> None:
    assert len(SessionPlan(()).samples()) == 16_000
