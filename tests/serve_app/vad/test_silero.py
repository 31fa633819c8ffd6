from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.silero_files import silero_file, speech
from serve_app.core.errors import ModelUnavailable
from serve_app.vad.detector import SILERO_STATE, VadRequest, VadState, VoiceDetector, pack_requests
from serve_app.vad.silero import SileroDetector

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        silero_file("silero_vad.onnx") is None, reason="the silero-vad wheel is not installed"
    ),
]


@cache
def detector(with_sequence: bool = False) -> VoiceDetector:
    step = silero_file("silero_vad.onnx")
    assert step is not None
    return SileroDetector(step, silero_file("silero_vad_16k_sequence.onnx") if with_sequence else None)


@cache
def probs(name: str = "short_0") -> np.ndarray:
    """The reference: one request, one stream, window by window."""
    (result,) = detector().detect([VadRequest(speech(name))])
    return result.probs


def test_speech_is_speech_and_silence_is_not() -> None:
    (silence, talk) = detector().detect([VadRequest(np.zeros(512 * 40, np.int16)), VadRequest(speech())])
    assert silence.probs.max() < 0.1
    assert (talk.probs > 0.5).mean() > 0.4
    assert talk.probs.dtype == np.float32


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_who_else_is_in_the_batch_changes_nothing(data: st.DataObject) -> None:
    streams = [speech(name)[: 60 * 512] for name in ("short_0", "short_1", "short_2", "short_3")]
    alone = [detector().detect([VadRequest(stream)])[0].probs for stream in streams]
    states: list[VadState | None] = [None] * len(streams)
    positions = [0] * len(streams)
    got: list[list[float]] = [[] for _ in streams]
    while any(position < len(stream) for position, stream in zip(positions, streams, strict=True)):
        counts = data.draw(st.lists(st.integers(0, 25), min_size=4, max_size=4).filter(any))
        rows = [row for row, count in enumerate(counts) if count]
        requests = [
            VadRequest(streams[row][positions[row] : positions[row] + counts[row] * 512], states[row])
            for row in rows
        ]
        for row, result in zip(rows, detector().detect(requests), strict=True):
            got[row] += result.probs.tolist()
            states[row] = result.state
            positions[row] += counts[row] * 512
    for row, wanted in enumerate(alone):
        np.testing.assert_array_equal(np.array(got[row], np.float32), wanted)


def test_the_sequence_network_gives_the_same() -> None:
    long = np.concatenate([speech("short_0"), speech("short_1")])[: 400 * 512]
    requests = [VadRequest(long), VadRequest(long[: 3 * 512]), VadRequest(long[512 : 512 * 20])]
    for got, wanted in zip(detector(True).detect(requests), detector().detect(requests), strict=True):
        np.testing.assert_allclose(got.probs, wanted.probs, atol=1e-6)
        np.testing.assert_allclose(got.state.recurrent, wanted.state.recurrent, atol=1e-4)
        np.testing.assert_array_equal(got.state.context, wanted.state.context)


def test_streams_may_alternate_between_both_networks() -> None:
    stream = speech("short_1")[: 120 * 512]
    state, got = None, []
    for start, end in ((0, 5), (5, 60), (60, 61), (61, 120)):
        (result,) = detector(True).detect([VadRequest(stream[start * 512 : end * 512], state)])
        state = result.state
        got.append(result.probs)
    (wanted,) = detector().detect([VadRequest(stream)])
    np.testing.assert_allclose(np.concatenate(got), wanted.probs, atol=1e-6)


def test_requests_are_not_touched_and_a_retry_is_exact() -> None:
    (first,) = detector().detect([VadRequest(speech()[: 512 * 10])])
    request = VadRequest(speech()[512 * 10 : 512 * 13], first.state)
    before = (first.state.recurrent.copy(), first.state.context.copy())
    (once,), (again,) = detector().detect([request]), detector().detect([request])
    np.testing.assert_array_equal(once.probs, again.probs)
    np.testing.assert_array_equal(first.state.recurrent, before[0])
    np.testing.assert_array_equal(first.state.context, before[1])
    np.testing.assert_array_equal(once.probs, probs()[10:13])


def test_nothing_asked_and_no_windows_are_answered() -> None:
    assert detector().detect([]) == []
    (first,) = detector().detect([VadRequest(speech()[:5_120])])
    (same,) = detector().detect([VadRequest(np.zeros(0, np.int16), first.state)])
    assert len(same.probs) == 0
    np.testing.assert_array_equal(same.state.recurrent, first.state.recurrent)
    np.testing.assert_array_equal(same.state.context, first.state.context)


def test_packed_and_plain_agree() -> None:
    requests = [VadRequest(speech()[: 512 * k]) for k in (1, 4, 2)]
    packed = detector().detect_packed(pack_requests(requests, SILERO_STATE))
    plain = detector().detect(requests)
    np.testing.assert_array_equal(packed.probs, np.concatenate([result.probs for result in plain]))


def test_a_missing_broken_or_wrong_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"gone\.onnx is missing"):
        SileroDetector(tmp_path / "gone.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        SileroDetector(broken)
    sequence = silero_file("silero_vad_16k_sequence.onnx")
    assert sequence is not None
    with pytest.raises(ModelUnavailable, match="has the inputs"):
        SileroDetector(sequence)
