from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.clips import Turn as ReferenceTurn
from benchmarks.speakers.live import (
    AnalysedWindow,
    LiveLabels,
    analyse,
    consistency,
    nearest_holder,
    parse_arguments,
    replay,
    window_ends,
)
from fakes.extras import needs_speakers
from serve_app.speakers.ports import SpeakerWindow, WindowVoices
from serve_app.speakers.turns import Turn

TURNS = tuple(ReferenceTurn(turn * 5.0, turn * 5.0 + 4.5, "", "ab"[turn % 2]) for turn in range(60))


def recording(num_turns: int) -> Clip:
    return Clip("made up", np.zeros(80_000 * num_turns, np.int16), "", turns=TURNS[:num_turns])


def heard(num_turns: int) -> list[AnalysedWindow]:
    """One window per turn, of that turn alone; the first speaker's voice is an axis, the second's another."""
    windows = []
    for number, turn in enumerate(TURNS[:num_turns]):
        activity = np.zeros((250, 1), np.uint8)
        activity[:225] = 1
        embedding = np.eye(4, dtype=np.float32)[[number % 2]]
        voices = WindowVoices(activity, 0.02, embedding, np.array([4.5], np.float32))
        windows.append(AnalysedWindow(turn.start_s, turn.start_s + 5.0, voices))
    return windows


def test_windows_end_behind_turns_and_every_step_within() -> None:
    assert window_ends(recording(2), 2.0) == [2.0, 4.0, 4.8, 6.8, 8.8, 9.8, 10.0]
    assert window_ends(recording(1), 60.0) == [4.8, 5.0]


def test_windows_are_the_ten_seconds_before() -> None:
    class Listening:
        def __init__(self) -> None:
            self.lengths: list[int] = []

        def analyse(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
            self.lengths += [len(window.audio) for window in windows]
            return [heard(1)[0].voices for _ in windows]

    listening = Listening()
    analysed = analyse(listening, recording(3), [4.0, 10.0, 14.0])
    assert listening.lengths == [64_000, 160_000, 160_000]
    assert [window.start_s for window in analysed] == [0.0, 0.0, 4.0]


def test_a_replay_reads_everything_once_however_long() -> None:
    labels = replay(heard(60))
    expected = [(turn.start_s, turn.end_s, "ab".index(turn.speaker)) for turn in TURNS]
    for turns in (labels.first, labels.revised):
        assert [(turn.start_s, turn.end_s, turn.speaker) for turn in turns] == expected
    assert len(labels.take_s) == 60


@needs_speakers
def test_a_session_whose_voices_keep_their_labels() -> None:
    result = consistency(recording(60), heard(60), block_s=60.0)
    assert result["words_wrong"] == 0.0
    assert result["blocks_with_another_label"] == 0
    assert result["speakers_found"] == 2
    assert len(result["held_bytes"]) == 4


@needs_speakers
def test_a_session_in_which_they_swap_them(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [
        Turn(turn.start_s, turn.end_s, ("ab".index(turn.speaker) + (turn.start_s >= 240)) % 2)
        for turn in TURNS
    ]
    swapped = LiveLabels(tuple(turns), tuple(turns), (0.001,) * 60)
    monkeypatch.setattr("benchmarks.speakers.live.replay", lambda _: swapped)
    result = consistency(recording(60), heard(60), block_s=60.0)
    assert result["words_wrong"] == pytest.approx(0.2, abs=0.01)
    assert result["blocks_with_another_label"] == 2


def test_who_holds_a_word() -> None:
    turns = [Turn(0, 2, 0), Turn(3, 4, 1)]
    assert nearest_holder(turns, 1.8, 2.1) == 0
    assert nearest_holder(turns, 2.7, 2.9) == 1
    assert nearest_holder([], 0, 1) is None


@pytest.mark.parametrize("wrong", [["--step", "0"], ["--hours", "-1"]])
def test_arguments_that_make_no_sense(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(wrong)
