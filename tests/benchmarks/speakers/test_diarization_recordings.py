from pathlib import Path

import numpy as np
import pytest

from benchmarks.speakers.recordings import (
    SHORT_TURNS_S,
    DialogueOptions,
    load_recordings,
    load_voices,
    make_dialogue,
    read_rttm,
    speech_frames,
)
from serve_app.core.samples import Pcm16


def tone(hertz: float, seconds: float) -> Pcm16:
    """Half a second of quiet, then a tone with a pause of 0.3 s in every two seconds, and quiet again."""
    at = np.arange(round(16_000 * seconds)) / 16_000
    on = (at % 2 < 1.7) & (at > 0.5) & (at < seconds - 0.5)
    quiet = np.random.default_rng(0).normal(0, 3, len(at))
    return (8_000 * np.sin(2 * np.pi * hertz * at) * on + quiet).astype(np.int16)


VOICES = {"low": [tone(200, 20.0)], "middle": [tone(500, 12.0), tone(500, 9.0)], "high": [tone(900, 15.0)]}


def test_the_committed_recordings() -> None:
    found = {recording.name: recording for recording in load_recordings()}
    assert found["ward_round"].num_speakers == 4
    assert found["dictation"].num_speakers == 1
    assert all(turn.text for turn in found["visit"].turns)
    assert all(recording.turns[-1].end_s <= recording.duration_s for recording in found.values())


def test_only_some_of_them() -> None:
    assert [recording.name for recording in load_recordings(names=["visit"])] == ["visit"]
    with pytest.raises(ValueError, match="nobody_said_this"):
        load_recordings(names=["visit", "nobody_said_this"])


def test_a_folder_without_rttm(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no recording"):
        load_recordings(tmp_path)


def test_rttm(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        ";; a comment\nSPEAKER a 1 4.5 0.5 <NA> <NA> B <NA> <NA>\n\nSPEAKER a 1 1 2 <NA> <NA> A <NA> <NA>\n"
    )
    assert [(turn.start_s, turn.end_s, turn.speaker) for turn in read_rttm(path)] == [
        (1, 3, "A"),
        (4.5, 5, "B"),
    ]
    path.write_text("SPEAKER a 1 x 2 <NA> <NA> A <NA> <NA>\n")
    with pytest.raises(ValueError, match="line 1"):
        read_rttm(path)


def test_no_dialogue_is_among_the_voices() -> None:
    lengths = {len(clip) for clips in load_voices(least_s=0.0).values() for clip in clips}
    dialogues = load_recordings(names=["visit", "phone_call", "ward_round"])
    assert lengths.isdisjoint(len(recording.samples) for recording in dialogues)


def test_speech_is_where_it_sounds() -> None:
    frames = speech_frames(tone(300, 4.0).astype(np.float32) / 32768)
    assert frames.tolist() == [False] * 25 + [True] * 60 + [False] * 15 + [True] * 75 + [False] * 25


@pytest.mark.parametrize("options", [DialogueOptions(), DialogueOptions(turn_s=SHORT_TURNS_S, level_db=0.0)])
def test_the_reference_of_a_dialogue_is_exact(options: DialogueOptions) -> None:
    recording = make_dialogue(VOICES, 3, 5, options)
    at = np.arange(len(recording.samples)) / 16_000
    spoken = np.zeros(len(at), np.bool_)
    for turn in recording.turns:
        inside = (at >= turn.start_s) & (at < turn.end_s)
        spoken |= (at >= turn.start_s - 0.001) & (at < turn.end_s + 0.001)
        spectrum = np.abs(np.fft.rfft(recording.samples[inside]))
        hertz = np.argmax(spectrum) * 16_000 / inside.sum()
        assert hertz == pytest.approx({"low": 200, "middle": 500, "high": 900}[turn.speaker], abs=2)
    assert np.abs(recording.samples[~spoken]).max() < 0.1 * np.abs(recording.samples).max()


def test_a_dialogue_is_the_same_for_the_same_seed() -> None:
    first, again, other = (make_dialogue(VOICES, 2, seed) for seed in (1, 1, 2))
    assert first.turns == again.turns
    assert np.array_equal(first.samples, again.samples)
    assert first.turns != other.turns


def test_everybody_speaks_and_nobody_twice_in_a_row() -> None:
    options = DialogueOptions(duration_s=40.0, turn_s=(1.0, 1.6))
    recording = make_dialogue(VOICES, 3, 4, options)
    assert {turn.speaker for turn in recording.turns[:3]} == set(VOICES)
    assert all(a.speaker != b.speaker for a, b in zip(recording.turns, recording.turns[1:], strict=False))
    assert all(turn.end_s - turn.start_s <= 1.61 for turn in recording.turns)


def test_overlaps_where_they_are_asked_for() -> None:
    def overlap_s(probability: float) -> float:
        options = DialogueOptions(turn_s=SHORT_TURNS_S, overlap_probability=probability)
        turns = make_dialogue(VOICES, 2, 3, options).turns
        return sum(max(0.0, a.end_s - b.start_s) for a, b in zip(turns, turns[1:], strict=False))

    assert overlap_s(0.0) == 0.0
    assert overlap_s(1.0) > 1.0


def test_more_speakers_than_voices() -> None:
    with pytest.raises(ValueError, match="4 speakers asked for, 3 voices"):
        make_dialogue(VOICES, 4, 1)
