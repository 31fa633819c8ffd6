"""The labeller, on windows of made-up voices: each has a direction, and noise around it."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.speakers.live.labeller import LabellerOptions, OnlineLabeller
from serve_app.speakers.live.labeller_state import MAX_LIVE_SPEAKERS, LabellerState
from serve_app.speakers.ports import WINDOW_S, WindowVoices

FRAME_S = 0.02
DIMENSIONS = 192
Said = tuple[float, float, int]
"""From, until, by whom."""


def voice_of(speaker: int) -> np.ndarray:
    direction = np.random.default_rng(1000 + speaker).normal(size=DIMENSIONS)
    return direction / np.linalg.norm(direction)


def window(script: Sequence[Said], end_s: float, noise: float = 0.5) -> tuple[float, WindowVoices]:
    """What an analyser would hear of `script` in the window that ends at `end_s`."""
    start_s = round(max(0.0, end_s - WINDOW_S), 2)
    num_frames = round((end_s - start_s) / FRAME_S)
    middles = start_s + (np.arange(num_frames) + 0.5) * FRAME_S
    speakers = sorted({who for start, end, who in script if start < end_s and end > start_s})
    columns = [
        np.any([(middles > start) & (middles < end) for start, end, who in script if who == speaker], axis=0)
        for speaker in speakers
    ]
    activity = np.array(columns, np.uint8).reshape(len(columns), num_frames).T
    random = np.random.default_rng(round(end_s * 100))
    embeddings = np.zeros((len(speakers), DIMENSIONS), np.float32)
    for row, speaker in enumerate(speakers):
        noisy = voice_of(speaker) + noise * random.normal(size=DIMENSIONS) / DIMENSIONS**0.5
        embeddings[row] = noisy / np.linalg.norm(noisy)
    clean_s = activity[activity.sum(1) == 1].sum(0).astype(np.float32) * np.float32(FRAME_S)
    return start_s, WindowVoices(activity, FRAME_S, embeddings, clean_s)


def take_turns(num_speakers: int, num_turns: int, turn_s: float = 4.0) -> list[Said]:
    return [(turn * turn_s, turn * turn_s + turn_s - 0.5, turn % num_speakers) for turn in range(num_turns)]


def feed(labeller: OnlineLabeller, script: Sequence[Said], ends: Sequence[float]) -> OnlineLabeller:
    for end_s in ends:
        labeller.take(*window(script, end_s))
    return labeller


def steps(until_s: float, step_s: float) -> list[float]:
    return [round(end, 2) for end in np.arange(step_s, until_s + 0.01, step_s).tolist()]


def labels_of(labeller: OnlineLabeller, script: Sequence[Said]) -> list[int | None]:
    return [labeller.speaker_of(start, end) for start, end, _ in script]


def test_speakers_are_numbered_as_they_first_speak() -> None:
    script = take_turns(3, 9)
    labeller = feed(OnlineLabeller(), script, steps(36, 2))
    assert labels_of(labeller, script) == [0, 1, 2] * 3
    assert labeller.num_speakers == 3


def test_turns_are_where_they_were_spoken() -> None:
    script = take_turns(2, 4)
    turns = feed(OnlineLabeller(), script, steps(16, 2)).turns(0.0)
    assert [(turn.start_s, turn.end_s, turn.speaker) for turn in turns] == [
        pytest.approx(said, abs=0.03) for said in script
    ]
    assert [turn.start_s for turn in feed(OnlineLabeller(), script, steps(16, 2)).turns(5.0)][0] == 5.0


def test_nothing_is_said_of_what_nobody_has_heard_yet() -> None:
    script = take_turns(2, 4)
    labeller = OnlineLabeller()
    assert labeller.speaker_of(0.0, 1.0) is None
    feed(labeller, script, steps(8, 2))
    assert labeller.covered_until_s == 8.0
    assert labeller.speaker_of(5.0, 7.0) == 1
    assert labeller.speaker_of(7.0, 9.0) is None


def test_a_word_in_a_pause_is_its_neighbours() -> None:
    labeller = feed(OnlineLabeller(), take_turns(2, 4), steps(16, 2))
    assert labeller.speaker_of(3.6, 3.7) == 0
    assert labeller.speaker_of(3.9, 3.95) == 1


def test_two_at_once() -> None:
    script = [(0.0, 6.0, 0), (4.0, 9.0, 1)]
    labeller = feed(OnlineLabeller(), script, steps(10, 2))
    both = [(turn.start_s, turn.end_s) for turn in labeller.turns(0.0)]
    assert both == [pytest.approx((0.0, 6.0), abs=0.05), pytest.approx((4.0, 9.0), abs=0.05)]


def test_later_audio_corrects_a_first_guess() -> None:
    script = [(0.0, 4.0, 0), (4.2, 4.9, 1), (5.1, 9.0, 0), (9.2, 13.0, 1)]
    labeller = feed(OnlineLabeller(), script, [5.0])
    assert labeller.speaker_of(4.3, 4.8) == 0, "0.7 s are too little for a new speaker"
    feed(labeller, script, [9.0, 13.0])
    assert labeller.speaker_of(4.3, 4.8) == labeller.speaker_of(9.3, 12.9) == 1


def test_never_more_speakers_than_allowed() -> None:
    script = take_turns(6, 18)
    labeller = feed(OnlineLabeller(LabellerOptions(most=3)), script, steps(72, 2))
    assert {turn.speaker for turn in labeller.turns(0.0)} == {0, 1, 2}
    assert labeller.num_speakers == 3


def alike(turn: int) -> tuple[float, WindowVoices]:
    """One turn of two speakers whose voices are as near as those of one speaker can be."""
    start_s, voices = window([(0.0, 4.5, 0)], 5.0)
    axes = np.eye(DIMENSIONS, dtype=np.float32)
    vector = axes[:1] if turn % 2 else 0.42 * axes[:1] + (1 - 0.42**2) ** 0.5 * axes[1:2]
    return start_s + 5.0 * turn, WindowVoices(voices.activity, FRAME_S, vector, voices.clean_s)


@pytest.mark.parametrize(
    ("options", "found"), [({}, 1), ({"least": 2, "most": 2}, 2), ({"least": 2}, 2), ({"most": 1}, 1)]
)
def test_as_many_as_are_known_to_be_there(options: dict[str, int], found: int) -> None:
    labeller = OnlineLabeller(LabellerOptions(**options))  # type: ignore[arg-type]
    for turn in range(6):
        labeller.take(*alike(turn))
    assert labeller.num_speakers == found


@pytest.mark.parametrize(
    "options",
    [
        {"most": 0},
        {"most": 17},
        {"least": 17, "most": 17},
        {"least": 5, "most": 4},
        {"horizon_s": 5.0},
    ],
)
def test_options_that_disagree(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="speakers|settle"):
        LabellerOptions(**options)  # type: ignore[arg-type]


def test_voices_that_do_not_fit() -> None:
    labeller = feed(OnlineLabeller(), take_turns(2, 4), [8.0])
    _, voices = window(take_turns(2, 4), 8.0)
    wrong = [
        (8.0, WindowVoices(voices.activity, FRAME_S, voices.embeddings[:1], voices.clean_s)),
        (8.0, WindowVoices(voices.activity, FRAME_S, voices.embeddings, voices.clean_s[:1])),
        (8.0, WindowVoices(voices.activity, 0.1, voices.embeddings, voices.clean_s)),
        (-1.0, voices),
        (float("nan"), voices),
    ]
    for start_s, broken in wrong:
        with pytest.raises(ValueError, match="expected|not of the same"):
            labeller.take(start_s, broken)
    assert labels_of(labeller, take_turns(2, 2)) == [0, 1]


def test_an_embedding_that_is_no_number_names_nobody() -> None:
    labeller = feed(OnlineLabeller(), take_turns(2, 4), [8.0])
    start_s, voices = window(take_turns(2, 4), 12.0)
    labeller.take(start_s, WindowVoices(voices.activity, FRAME_S, voices.embeddings * np.nan, voices.clean_s))
    assert labels_of(labeller, take_turns(2, 2)) == [0, 1]


def test_silence_and_empty_windows() -> None:
    labeller = OnlineLabeller()
    labeller.take(0.0, window([], 5.0)[1])
    labeller.take(
        0.0,
        WindowVoices(
            np.zeros((0, 0), np.uint8), FRAME_S, np.zeros((0, 192), np.float32), np.zeros(0, np.float32)
        ),
    )
    assert labeller.covered_until_s == 5.0
    assert labeller.speaker_of(1.0, 2.0) is None
    assert labeller.num_speakers == 0


def test_a_gap_of_hours_costs_nothing() -> None:
    script = [(0.0, 8.0, 0), (90_000.0, 90_008.0, 1), (90_009.0, 90_013.0, 0)]
    labeller = feed(OnlineLabeller(), script, [4.0, 8.0, 90_008.0, 90_013.0])
    assert labels_of(labeller, script) == [None, 1, 0]
    assert labeller.settled_until_s > 89_000


@pytest.mark.slow
def test_half_an_hour_in_bounded_memory_with_every_voice_under_its_label() -> None:
    script = take_turns(3, 450)
    labeller = OnlineLabeller()
    held = set()
    for end_s in steps(1800, 5):
        near = [said for said in script if end_s - 15 < said[0] < end_s]
        labeller.take(*window(near, end_s))
        if end_s > 300:
            held.add(len(labeller._windows))
            start, end, who = near[-2]
            assert labeller.speaker_of(start, end) == who
    assert max(held) <= 22
    assert len(labeller.turns(0.0)) <= 50
    assert labeller.settled_until_s == pytest.approx(1710, abs=0.1)


# -- state --------------------------------------------------------------------------------------


def test_another_labeller_goes_on_with_the_same_labels() -> None:
    script = take_turns(4, 16)
    before = feed(OnlineLabeller(), script, steps(32, 2))
    data = before.state.to_bytes()
    after = OnlineLabeller(state=LabellerState.from_bytes(data))
    assert after.covered_until_s == after.settled_until_s == 32.0
    later = [end for end in steps(64, 2) if end > 42]
    feed(after, script, later)
    assert labels_of(after, script)[8:] == [0, 1, 2, 3] * 2
    assert after.num_speakers == 4


def test_the_state_is_small() -> None:
    labeller = feed(OnlineLabeller(), take_turns(8, 16), steps(64, 2))
    assert labeller.num_speakers == 8
    assert len(labeller.state.to_bytes()) < 2_500


def test_the_state_of_a_session_that_heard_nobody() -> None:
    state = OnlineLabeller().state
    assert LabellerState.from_bytes(state.to_bytes()) == state == LabellerState()


@given(st.binary(max_size=300))
def test_hostile_states(data: bytes) -> None:
    try:
        state = LabellerState.from_bytes(data)
    except ValueError:
        return
    assert state.to_bytes() == data


TWO_SPEAKERS = feed(OnlineLabeller(), take_turns(2, 4), [8.0, 16.0]).state.to_bytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 413), st.integers(0, 255), st.integers(0, 414))
def test_damaged_states_are_refused_or_usable(place: int, value: int, length: int) -> None:
    script = take_turns(2, 4)
    data = bytearray(TWO_SPEAKERS)
    data[place] = value
    for damaged in (bytes(data), bytes(data[:length])):
        try:
            state = LabellerState.from_bytes(damaged)
        except ValueError:
            continue
        labeller = OnlineLabeller(state=state)
        start_s = min(state.until_s, 1e6)
        labeller.take(start_s, window(script, 8.0)[1])
        assert labeller.num_speakers <= MAX_LIVE_SPEAKERS


# -- whatever the steps -------------------------------------------------------------------------


@st.composite
def scripts(draw: st.DrawFn) -> list[Said]:
    script, at_s = [], 0.0
    for _ in range(draw(st.integers(1, 12))):
        length_s = draw(st.sampled_from([0.3, 0.8, 1.5, 3.0, 6.0]))
        script.append((at_s, round(at_s + length_s, 2), draw(st.integers(0, 4))))
        at_s = round(at_s + length_s + draw(st.sampled_from([-0.2, 0.1, 0.5, 2.0])), 2)
    return script


step_lists = st.lists(st.sampled_from([0.5, 0.9, 2.0, 5.0, 10.0]), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(scripts(), step_lists, st.integers(1, 4), st.sampled_from([10.0, 15.0, 60.0]))
def test_settled_labels_never_change_and_speakers_are_bounded(
    script: list[Said], gaps: list[float], most: int, horizon_s: float
) -> None:
    options = LabellerOptions(most=most, horizon_s=horizon_s)
    labeller, same = OnlineLabeller(options), OnlineLabeller(options)
    end_s = 0.0
    settled: dict[tuple[float, float], int | None] = {}
    for gap_s in gaps:
        end_s = round(end_s + gap_s, 2)
        for one in (labeller, same):
            one.take(*window(script, end_s))
        assert labeller.covered_until_s == pytest.approx(end_s)
        assert labeller.settled_until_s >= end_s - horizon_s - 0.02
        assert labeller.turns(0.0) == same.turns(0.0)
        assert all(0 <= turn.speaker < most for turn in labeller.turns(0.0))
        assert labeller.num_speakers <= most
        for span, label in settled.items():
            if span[0] > labeller.settled_until_s - options.kept_s + 4:
                assert labeller.speaker_of(*span) == label
        for start, end, _ in script:
            if end + 3.1 < labeller.settled_until_s:
                settled.setdefault((start, end), labeller.speaker_of(start, end))


@settings(max_examples=40, deadline=None)
@given(scripts(), st.lists(st.floats(0.5, 70), min_size=1, max_size=12))
def test_windows_in_any_order(script: list[Said], ends: list[float]) -> None:
    labeller = OnlineLabeller(LabellerOptions(horizon_s=20.0))
    for end_s in ends:
        labeller.take(*window(script, round(end_s, 2)))
    assert labeller.settled_until_s <= labeller.covered_until_s == pytest.approx(max(ends), abs=0.03)
    labeller.state.to_bytes()
