"""The endpointer as a table: windows in, signals out. One letter a window: S speech, q quiet, _ silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.vad.endpointer import Closed, Endpointer, Opened, Paused, Resumed, Signal, State
from serve_app.vad.options import EndpointingOptions

W = 512
PROBABILITY = {"S": 0.9, "q": 0.4, "_": 0.05}
OPTIONS = EndpointingOptions(
    min_speech_ms=96,
    min_silence_ms=160,
    pre_roll_ms=64,
    speech_pad_ms=64,
    overlap_ms=64,
    max_utterance_ms=960,
)


def feed(endpointer: Endpointer, windows: str) -> list[Signal]:
    signals: list[Signal] = []
    for letter in windows:
        signals += endpointer.step(PROBABILITY[letter])
        if signals and isinstance(signals[-1], Closed):
            break
    return signals


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ("______", []),
        ("qqqqqq", []),
        ("___SS_____", []),
        ("___SSS", [Opened(3 * W, W)]),
        ("S_S_S", [Opened(0, 0)]),
        ("___SqS", [Opened(3 * W, W)]),
        ("___SSS__", [Opened(3 * W, W), Paused(8 * W)]),
        ("___SSS__S", [Opened(3 * W, W), Paused(8 * W), Resumed()]),
        ("___SSS__q", [Opened(3 * W, W), Paused(8 * W), Resumed()]),
        (
            "___SSS_____",
            [Opened(3 * W, W), Paused(8 * W), Closed(W, 8 * W, 6 * W, 11 * W, 8 * W)],
        ),
    ],
)
def test_signals(windows: str, expected: list[Signal]) -> None:
    assert feed(Endpointer(OPTIONS), windows) == expected


def test_origin_shifts_everything_and_bounds_the_pre_roll() -> None:
    signals = feed(Endpointer(OPTIONS, origin_sample=1000), "_SSS_____")
    assert signals[0] == Opened(1000 + W, 1000)
    assert signals[-1] == Closed(1000, 1000 + 6 * W, 1000 + 4 * W, 1000 + 9 * W, 1000 + 6 * W)


def test_too_long_speech_is_cut_at_its_quietest_window() -> None:
    windows = "S" * 24 + "q" + "S" * 40
    closed = feed(Endpointer(OPTIONS), windows)[-1]
    assert isinstance(closed, Closed)
    assert closed.cut_sample == 24 * W + W // 2
    assert closed.end_sample == closed.cut_sample + W
    assert closed.resume_sample == closed.cut_sample - W


@given(st.text("Sq_", min_size=60, max_size=200))
def test_no_utterance_is_longer_than_allowed_and_none_ends_before_it_begins(windows: str) -> None:
    endpointer = Endpointer(OPTIONS)
    for signal in feed(endpointer, windows):
        if isinstance(signal, Closed):
            assert signal.start_sample < signal.end_sample <= signal.decided_sample
            assert signal.end_sample - signal.start_sample <= 960 * 16 + W
            assert signal.start_sample < signal.resume_sample


@pytest.mark.parametrize(
    ("windows", "extra", "expected"),
    [
        ("___", 0.1, None),
        ("___", 0.9, (W, 3 * W + 100)),
        ("___S", 0.1, (W, 4 * W + 100)),
        ("___SSSS", 0.1, (W, 7 * W + 100)),
        ("___SSSS__", 0.1, (W, 9 * W)),
    ],
)
def test_close_now(windows: str, extra: float, expected: tuple[int, int] | None) -> None:
    endpointer = Endpointer(OPTIONS)
    feed(endpointer, windows)
    closed = endpointer.close_now(len(windows) * W + 100, extra)
    assert (None if closed is None else (closed.start_sample, closed.end_sample)) == expected


def test_off_means_open_from_the_start_and_no_endpoint() -> None:
    endpointer = Endpointer(EndpointingOptions(enabled=False, max_utterance_ms=30_000))
    assert endpointer.state is State.SPEECH
    assert feed(endpointer, "_" * 500) == []
    closed = endpointer.close_now(500 * W)
    assert closed is not None
    assert (closed.start_sample, closed.end_sample) == (0, 500 * W)


def test_whisper_window_is_never_exceeded() -> None:
    endpointer = Endpointer(EndpointingOptions(max_utterance_ms=60_000))
    closed = feed(endpointer, "S" * 2000)[-1]
    assert isinstance(closed, Closed)
    assert closed.end_sample - closed.start_sample <= 30 * 16_000
