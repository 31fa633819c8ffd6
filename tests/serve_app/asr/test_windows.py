"""The window of a job is a function of its length, language and role alone."""

from __future__ import annotations

import pytest

from serve_app.asr.features import MAX_FRAMES
from serve_app.asr.windows import (
    Window,
    WindowPolicy,
    full_window,
    plan_window,
)
from serve_app.models.footprint import MAX_STATES


@pytest.mark.parametrize(
    ("seconds", "policy", "num_frames", "num_states"),
    [
        (3.0, WindowPolicy(pad_s=0.5, tail_s=5.0), 350, 175 + 250),
        (3.0, WindowPolicy(pad_s=0.5, tail_s=30.0), 350, MAX_STATES),
        (0.1, WindowPolicy(pad_s=0.5, floor_s=1.0, tail_s=5.0), 100, 50 + 250),
        (3.01, WindowPolicy(pad_s=0.5, tail_s=0.0, bucket_frames=50), 400, 200),
        (3.0, WindowPolicy(pad_s=0.5, tail_s=0.0, bucket_frames=50), 350, 175),
        (29.9, WindowPolicy(pad_s=0.5, tail_s=10.0), MAX_FRAMES, MAX_STATES),
        (30.0, WindowPolicy(), MAX_FRAMES, MAX_STATES),
        (3.0, WindowPolicy(full_window=True), MAX_FRAMES, MAX_STATES),
    ],
)
def test_window(seconds: float, policy: WindowPolicy, num_frames: int, num_states: int) -> None:
    window = plan_window(round(seconds * 16_000), "en", policy)
    assert (window.num_frames, window.num_states) == (num_frames, num_states)


def test_no_audio_still_makes_a_window_that_the_encoder_takes() -> None:
    assert plan_window(0, "en", WindowPolicy(pad_s=0, floor_s=0, tail_s=0)).num_frames == 2


def test_token_limit_grows_with_the_audio_and_stops_where_whisper_stops() -> None:
    assert [full_window(s * 16_000, "en").max_new_tokens for s in (1, 10, 30)] == [20, 92, 224]


def test_languages_spelled_letter_by_letter_may_have_more_tokens() -> None:
    short: Window = full_window(3 * 16_000, "en")
    for language in ("th", "hi", None):
        assert full_window(3 * 16_000, language).max_new_tokens > 2 * short.max_new_tokens


@pytest.mark.parametrize(
    "wrong", [{"pad_s": -1}, {"tail_s": -0.1}, {"bucket_frames": 0}, {"bucket_frames": 3}]
)
def test_impossible_policies_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        WindowPolicy(**wrong)  # type: ignore[arg-type]
