from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.audio.ring import SampleBuffer


def ramp(start: int, num_samples: int) -> np.ndarray:
    return (np.arange(start, start + num_samples) % 30_011).astype(np.int16)


@given(
    st.integers(0, 10**9),
    st.lists(
        st.tuples(st.integers(0, 30_000), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=12
    ),
)
def test_holds_exactly_what_was_appended_and_not_discarded(
    first: int, steps: list[tuple[int, float, float, float]]
) -> None:
    buffer = SampleBuffer(first)
    end = first
    for num_samples, a, b, keep in steps:
        buffer.append(ramp(end, num_samples))
        end += num_samples
        assert (buffer.end, len(buffer)) == (end, end - buffer.start)
        low, high = sorted(buffer.start + round(x * len(buffer)) for x in (a, b))
        np.testing.assert_array_equal(buffer.slice(low, high), ramp(low, high - low))
        buffer.discard_before(buffer.start + round(keep * len(buffer)))
    np.testing.assert_array_equal(buffer.slice(buffer.start, end), ramp(buffer.start, end - buffer.start))


def test_slices_are_contiguous_copies() -> None:
    buffer = SampleBuffer()
    buffer.append(ramp(0, 100))
    piece = buffer.slice(10, 20)
    piece[:] = -1
    assert piece.flags.c_contiguous
    np.testing.assert_array_equal(buffer.slice(10, 20), ramp(10, 10))


def test_memory_stays_with_the_samples_held_not_the_samples_seen() -> None:
    buffer = SampleBuffer()
    for second in range(2_000):
        buffer.append(np.zeros(16_000, np.int16))
        buffer.discard_before(max(0, second - 1) * 16_000)
    assert len(buffer) == 32_000
    assert buffer.capacity_bytes <= 8 * 2 * 48_000


def test_gives_memory_back_after_a_burst() -> None:
    buffer = SampleBuffer()
    buffer.append(np.zeros(1_000_000, np.int16))
    buffer.discard_before(1_000_000)
    for _ in range(200):
        buffer.append(np.zeros(16_000, np.int16))
        buffer.discard_before(buffer.end)
    assert buffer.capacity_bytes <= 400_000


def test_moves_each_sample_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = 0
    make_room = SampleBuffer._make_room

    def counted(self: SampleBuffer, num_samples: int) -> None:
        nonlocal moved
        moved += len(self)
        make_room(self, num_samples)

    monkeypatch.setattr(SampleBuffer, "_make_room", counted)
    buffer = SampleBuffer()
    for _ in range(20_000):
        buffer.append(np.zeros(320, np.int16))
        buffer.discard_before(max(0, buffer.end - 100_000))
    assert moved <= 2 * buffer.end


@pytest.mark.parametrize(("low", "high"), [(9, 20), (10, 101), (30, 20), (-1, 5)])
def test_refuses_samples_it_does_not_hold(low: int, high: int) -> None:
    buffer = SampleBuffer()
    buffer.append(ramp(0, 100))
    buffer.discard_before(10)
    with pytest.raises(IndexError, match="outside"):
        buffer.slice(low, high)


def test_discarding_backwards_changes_nothing_and_past_the_end_is_refused() -> None:
    buffer = SampleBuffer(5)
    buffer.append(ramp(5, 10))
    buffer.discard_before(8)
    buffer.discard_before(2)
    assert (buffer.start, buffer.end) == (8, 15)
    with pytest.raises(IndexError, match="cannot discard"):
        buffer.discard_before(16)


@pytest.mark.parametrize("chunk", [np.zeros(4, np.float32), np.zeros((2, 2), np.int16)])
def test_refuses_anything_but_mono_int16(chunk: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected int16"):
        SampleBuffer().append(chunk)


def test_refuses_a_negative_start() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        SampleBuffer(-1)
