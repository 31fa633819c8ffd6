from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.vad.detector import (
    SILERO_STATE,
    WEBRTC_STATE,
    PackedResults,
    StateShape,
    VadRequest,
    VadState,
    pack_requests,
    unpack_requests,
    unpack_results,
)


def state(shape: StateShape, value: int) -> VadState:
    return VadState(
        np.full(shape.recurrent, value, np.float32), np.full(shape.num_context_samples, value, np.int16)
    )


@given(
    st.sampled_from([SILERO_STATE, WEBRTC_STATE]),
    st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(1, 100)), max_size=6),
)
def test_packing_and_unpacking_give_the_requests_back(
    shape: StateShape, rows: list[tuple[int, int | None]]
) -> None:
    requests = [
        VadRequest(np.full(count * 512, row + 1, np.int16), None if value is None else state(shape, value))
        for row, (count, value) in enumerate(rows)
    ]
    batch = pack_requests(requests, shape)
    assert batch.windows.shape == (sum(count for count, _ in rows), 512)
    for request, got, (_, value) in zip(requests, unpack_requests(batch), rows, strict=True):
        assert got.state is not None
        np.testing.assert_array_equal(got.samples, request.samples)
        np.testing.assert_array_equal(got.state.recurrent, state(shape, value or 0).recurrent)
        np.testing.assert_array_equal(got.state.context, state(shape, value or 0).context)


def test_results_come_apart_in_order_and_own_their_memory() -> None:
    results = unpack_results(
        PackedResults(
            np.arange(3, dtype=np.float32),
            np.array([2, 0, 1], np.int32),
            np.arange(3 * 256, dtype=np.float32).reshape(3, 2, 128),
            np.arange(3 * 64, dtype=np.int16).reshape(3, 64),
        )
    )
    assert [result.probs.tolist() for result in results] == [[0, 1], [], [2]]
    assert results[2].state.context[0] == 128
    assert all(result.probs.base is None and result.state.recurrent.base is None for result in results)


@pytest.mark.parametrize("samples", [np.zeros(511, np.int16), np.zeros(512, np.float32)])
def test_refuses_anything_but_whole_int16_windows(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected whole windows"):
        pack_requests([VadRequest(samples)], SILERO_STATE)


def test_refuses_the_state_of_another_detector() -> None:
    with pytest.raises(ValueError, match="expected a state of shapes"):
        pack_requests([VadRequest(np.zeros(512, np.int16), state(WEBRTC_STATE, 0))], SILERO_STATE)


def test_packed_is_small() -> None:
    requests = [VadRequest(np.zeros(1_024, np.int16), state(SILERO_STATE, 1)) for _ in range(32)]
    packed = len(pickle.dumps(pack_requests(requests, SILERO_STATE), protocol=5))
    assert packed < 32 * (2_048 + 1_024 + 128 + 4) + 1_000
