from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.vad.options import EndpointingOptions
from serve_app.vad.recording import AudioWindow, WindowPlanner, plan_windows

W = 512
BARE = EndpointingOptions(min_speech_ms=0, min_silence_ms=0, pre_roll_ms=0, speech_pad_ms=0)
"""No padding and nothing too short: windows are exactly the speech."""


def timeline(*parts: tuple[float, int]) -> list[float]:
    """(probability, number of windows) one after the other."""
    return [probability for probability, count in parts for _ in range(count)]


def plan(
    probs: list[float], options: EndpointingOptions = BARE, **limits: float
) -> list[tuple[float, float]]:
    """Windows in units of 512 samples."""
    windows = plan_windows(probs, options, num_samples=len(probs) * W, **limits)
    return [(window.start_sample / W, window.end_sample / W) for window in windows]


SILENCE_MS = replace(BARE, min_silence_ms=160)


@pytest.mark.parametrize(
    ("probs", "options", "limits", "windows"),
    [
        pytest.param([], BARE, {}, [], id="nothing"),
        pytest.param(timeline((0.1, 50)), BARE, {}, [], id="only silence"),
        pytest.param(timeline((0.1, 10), (0.9, 20), (0.1, 30)), SILENCE_MS, {}, [(10, 30)], id="one region"),
        pytest.param(
            timeline((0.9, 10), (0.4, 10), (0.1, 10)),
            SILENCE_MS,
            {},
            [(0, 20)],
            id="the lower threshold holds",
        ),
        pytest.param(
            timeline((0.1, 5), (0.4, 20)), SILENCE_MS, {}, [], id="the lower threshold does not open"
        ),
        pytest.param(
            timeline((0.9, 10), (0.1, 20), (0.9, 10)), SILENCE_MS, {}, [(0, 40)], id="neighbours are joined"
        ),
        pytest.param(
            timeline((0.9, 10), (0.1, 70), (0.9, 10)),
            SILENCE_MS,
            {},
            [(0, 10), (80, 90)],
            id="not over a long gap",
        ),
        pytest.param(
            timeline((0.9, 10), (0.1, 20), (0.9, 10)),
            SILENCE_MS,
            {"target_window_s": 1.0},
            [(0, 10), (30, 40)],
            id="not beyond the target",
        ),
        pytest.param(
            timeline((0.1, 10), (0.9, 7), (0.1, 80), (0.9, 8), (0.1, 20)),
            replace(SILENCE_MS, min_speech_ms=250),
            {},
            [(97, 105)],
            id="too short is dropped",
        ),
        pytest.param(
            timeline((0.1, 10), (0.9, 2)),
            replace(SILENCE_MS, min_speech_ms=250),
            {},
            [(10, 12)],
            id="not when the recording ends in it",
        ),
        pytest.param(
            timeline((0.1, 40), (0.9, 10), (0.1, 80)),
            replace(SILENCE_MS, pre_roll_ms=320, speech_pad_ms=160),
            {},
            [(30, 55)],
            id="padding",
        ),
        pytest.param(
            timeline((0.1, 4), (0.9, 10), (0.1, 2)),
            replace(SILENCE_MS, pre_roll_ms=320, speech_pad_ms=160),
            {},
            [(0, 16)],
            id="padding ends with the recording",
        ),
        pytest.param(
            timeline((0.9, 10), (0.1, 8), (0.9, 10), (0.1, 80)),
            replace(SILENCE_MS, pre_roll_ms=320, speech_pad_ms=320),
            {"target_window_s": 0.5},
            [(0, 14), (14, 38)],
            id="a short gap is shared",
        ),
        pytest.param(
            timeline((0.9, 40), (0.2, 1), (0.9, 40)),
            SILENCE_MS,
            {"target_window_s": 2.0, "max_window_s": 2.048},
            [(0, 40.5), (40.5, 81)],
            id="cut at the quietest window",
        ),
        pytest.param(
            timeline((0.9, 70), (0.1, 5), (0.9, 40)),
            replace(BARE, min_silence_ms=500),
            {"target_window_s": 2.0},
            [(0, 72.5), (72.5, 115)],
            id="cut in the first pause after the target",
        ),
    ],
)
def test_windows(
    probs: list[float],
    options: EndpointingOptions,
    limits: dict[str, float],
    windows: list[tuple[float, float]],
) -> None:
    assert plan(probs, options, **limits) == windows


PROBS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.34, 0.4, 0.5, 0.7, 1.0]), st.integers(1, 60)), max_size=25
).map(lambda parts: timeline(*parts))
OPTIONS = st.builds(
    EndpointingOptions,
    min_speech_ms=st.sampled_from([0, 250]),
    min_silence_ms=st.sampled_from([0, 100, 500]),
    pre_roll_ms=st.sampled_from([0, 200, 700]),
    speech_pad_ms=st.sampled_from([0, 200, 700]),
)
LIMITS = st.fixed_dictionaries(
    {
        "target_window_s": st.sampled_from([0.5, 2.0, 12.0]),
        "max_window_s": st.sampled_from([1.0, 3.0, 29.0]),
        "max_gap_s": st.sampled_from([0.0, 0.5, 2.0]),
    }
)


def coverage(windows: list[AudioWindow], num_samples: int) -> np.ndarray:
    times = np.zeros(num_samples, np.int8)
    for window in windows:
        times[window.start_sample : window.end_sample] += 1
    return times


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(PROBS, OPTIONS, LIMITS, st.integers(0, 511))
def test_all_speech_is_in_exactly_one_window(
    probs: list[float], options: EndpointingOptions, limits: dict[str, float], missing: int
) -> None:
    options = replace(options, min_speech_ms=0)
    num_samples = max(0, len(probs) * W - missing)
    windows = plan_windows(probs, options, num_samples=num_samples, **limits)
    times = coverage(windows, num_samples)
    voiced = np.repeat(np.array(probs) >= options.threshold, W)[:num_samples]
    assert times.max(initial=0) <= 1
    assert (times[voiced] == 1).all()


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(PROBS, OPTIONS, LIMITS)
def test_windows_are_in_order_and_within_their_limits(
    probs: list[float], options: EndpointingOptions, limits: dict[str, float]
) -> None:
    num_samples = len(probs) * W
    windows = plan_windows(probs, options, num_samples=num_samples, **limits)
    for window in windows:
        assert 0 <= window.start_sample < window.end_sample <= num_samples
        assert window.end_sample - window.start_sample <= limits["max_window_s"] * 16_000
    for before, after in itertools.pairwise(windows):
        assert before.end_sample <= after.start_sample


@settings(deadline=None)
@given(PROBS, OPTIONS, LIMITS, st.lists(st.integers(1, 40), max_size=40))
def test_planning_piece_by_piece_gives_the_same_windows(
    probs: list[float], options: EndpointingOptions, limits: dict[str, float], sizes: list[int]
) -> None:
    planner = WindowPlanner(options, num_samples=len(probs) * W, **limits)
    got: list[AudioWindow] = []
    position = 0
    for size in [*sizes, len(probs)]:
        got += planner.push(probs[position : position + size])
        position += size
    got += planner.finish()
    assert got == plan_windows(probs, options, num_samples=len(probs) * W, **limits)


@settings(deadline=None)
@given(PROBS, LIMITS)
def test_with_endpointing_off_every_sample_is_decoded(probs: list[float], limits: dict[str, float]) -> None:
    num_samples = len(probs) * W
    options = EndpointingOptions(enabled=False)
    windows = plan_windows(probs, options, num_samples=num_samples, **limits)
    assert (coverage(windows, num_samples) == 1).all()


def regions(probs: list[float], options: EndpointingOptions) -> list[tuple[int, int, int]]:
    """(first window, last window, number of voiced ones) of all speech, by looking ahead."""
    silence = max(1, -(-options.min_silence_ms * 16 // W))
    found = []
    at = 0
    while at < len(probs):
        if probs[at] < options.threshold:
            at += 1
            continue
        start = last = at
        while at < len(probs) and at - last < silence:
            at += 1
            if at < len(probs) and probs[at] >= options.threshold - 0.15:
                last = at
        found.append((start, last, sum(p >= options.threshold - 0.15 for p in probs[start : last + 1])))
        at = last + silence + 1
    return found


def test_with_endpointing_off_the_cut_is_where_it_is_least_loud() -> None:
    loudness = timeline((0.05, 500), (0.01, 1), (0.05, 500))
    assert plan(loudness, EndpointingOptions(enabled=False)) == [(0, 500.5), (500.5, 1_001)]


@settings(deadline=None)
@given(PROBS, OPTIONS)
def test_short_sounds_are_the_only_ones_dropped(probs: list[float], options: EndpointingOptions) -> None:
    options = replace(options, min_speech_ms=250, pre_roll_ms=0, speech_pad_ms=0)
    num_samples = len(probs) * W
    # With neighbours never joined only speech is covered: what is dropped shows.
    windows = plan_windows(probs, options, num_samples=num_samples, target_window_s=29.0, max_gap_s=0.0)
    times = coverage(windows, num_samples)
    wanted = np.zeros(num_samples, np.int8)
    for start, last, num_voiced in regions(probs, options):
        at_the_end = len(probs) - 1 - last < max(1, -(-options.min_silence_ms * 16 // W))
        if num_voiced * 32 >= options.min_speech_ms or at_the_end:
            wanted[start * W : (last + 1) * W] = 1
    np.testing.assert_array_equal(times, wanted)


def test_windows_come_while_the_recording_goes_on() -> None:
    planner = WindowPlanner(BARE, num_samples=10**9)
    ready = planner.push(timeline((0.9, 300), (0.1, 100), (0.9, 300), (0.1, 100)))
    assert [(window.start_sample // W, window.end_sample // W) for window in ready] == [(0, 300), (400, 700)]
    assert planner.push(timeline((0.9, 2_000)))


def test_memory_does_not_grow_with_the_recording() -> None:
    planner = WindowPlanner(EndpointingOptions(), num_samples=10**9)
    planner.push(timeline((0.9, 20_000)))
    assert len(planner._probs) < 29 * 16_000 / W + 2
    assert planner._out == []


@pytest.mark.parametrize("limits", [{"max_window_s": 0.1}, {"target_window_s": 0.0}, {"max_gap_s": -1.0}])
def test_refuses_absurd_limits(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="windows of"):
        WindowPlanner(BARE, num_samples=1, **limits)
