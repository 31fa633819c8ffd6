from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.silero_files import speech
from serve_app.vad.detector import VadRequest, VadState, VoiceDetector
from serve_app.vad.webrtc import WebRtcDetector

DETECTOR: VoiceDetector = WebRtcDetector(aggressiveness=2)


def test_speech_is_speech_and_silence_is_not() -> None:
    silence, talk = DETECTOR.detect([VadRequest(np.zeros(512 * 40, np.int16)), VadRequest(speech())])
    assert silence.probs.max() == 0
    assert (talk.probs > 0.5).mean() > 0.4
    assert set(np.round(talk.probs * 3, 3).tolist()) <= {0, 1, 2, 3}


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12))
def test_the_cutting_of_the_stream_changes_nothing(counts: list[int]) -> None:
    stream = speech("short_1")[: 90 * 512]
    (whole,) = DETECTOR.detect([VadRequest(stream)])
    state: VadState | None = None
    got: list[float] = []
    for count in [*counts, 90]:
        piece = stream[len(got) * 512 : (len(got) + count) * 512]
        other = VadRequest(speech("short_2")[: 512 * 2])
        _, result = DETECTOR.detect([other, VadRequest(piece, state)])
        got += result.probs.tolist()
        state = result.state
    np.testing.assert_array_equal(np.array(got, np.float32), whole.probs)


def test_more_aggressive_hears_less_speech() -> None:
    noise = np.random.default_rng(0).normal(0, 500, 512 * 60).astype(np.int16)
    audio = (speech("short_3")[: 512 * 60] // 2 + noise).astype(np.int16)
    heard = [WebRtcDetector(level).detect([VadRequest(audio)])[0].probs.sum() for level in range(4)]
    assert heard == sorted(heard, reverse=True)
    assert heard[0] > heard[3]


def test_agrees_with_the_other_detector_on_most_windows() -> None:
    from fakes.silero_files import silero_file
    from serve_app.vad.silero import SileroDetector

    path = silero_file("silero_vad.onnx")
    if path is None:
        pytest.skip("the silero-vad wheel is not installed")
    request = VadRequest(speech("short_0"))
    (ours,), (theirs,) = DETECTOR.detect([request]), SileroDetector(path).detect([request])
    assert ((ours.probs > 0.5) == (theirs.probs > 0.5)).mean() > 0.75


@pytest.mark.parametrize("level", [-1, 4])
def test_refuses_levels_that_do_not_exist(level: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 3"):
        WebRtcDetector(level)
