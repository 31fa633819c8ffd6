from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sotto_client.outbox import PIECE_BYTES, Mark, Outbox


def drain(outbox: Outbox) -> list[bytes | Mark]:
    items = []
    while (item := outbox.next()) is not None:
        items.append(item)
    return items


def audio(items: list[bytes | Mark]) -> bytes:
    return b"".join(item for item in items if isinstance(item, bytes))


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=30),
    st.sampled_from([(2, 16_000), (1, 8_000), (4, 48_000), (2, 44_100)]),
    st.integers(0, 1000),
)
def test_after_a_rewind_everything_behind_the_ticket_comes_again(
    sizes: list[int], form: tuple[int, int], seed: int
) -> None:
    sample_bytes, rate_hz = form
    outbox = Outbox(sample_bytes=sample_bytes, rate_hz=rate_hz)
    rng = random.Random(seed)
    said = rng.randbytes(sum(sizes) * sample_bytes)
    position = acknowledged = 0
    for size in sizes:
        end = position + size * sample_bytes
        outbox.put(said[position:end])
        position = end
        for _ in range(rng.randrange(3)):
            outbox.next()
        if rng.random() < 0.3:
            acknowledged = rng.randint(acknowledged, position // sample_bytes * 16_000 // rate_hz)
            outbox.forget(acknowledged)
        if rng.random() < 0.3:
            outbox.rewind()
    outbox.rewind()
    kept_from = acknowledged * rate_hz // 16_000 * sample_bytes
    assert audio(drain(outbox)) == said[kept_from:]
    assert outbox.held_s == pytest.approx(len(said[kept_from:]) / sample_bytes / rate_hz)


def test_marks_keep_their_place_until_what_they_close_is_acknowledged() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.put(bytes([number]) * 20)
        outbox.mark(Mark.FLUSH)
    outbox.mark(Mark.END)
    drain(outbox)
    outbox.forget(15)
    outbox.rewind()
    assert drain(outbox) == [b"\1" * 10, Mark.FLUSH, b"\2" * 20, Mark.FLUSH, Mark.END]
    outbox.forget(20)
    outbox.rewind()
    assert drain(outbox) == [b"\2" * 20, Mark.FLUSH, Mark.END]
    outbox.forget(30)
    outbox.rewind()
    assert drain(outbox) == [Mark.END]


def test_what_was_forgotten_once_is_known() -> None:
    outbox = Outbox()
    outbox.put(bytes(200))
    drain(outbox)
    assert [outbox.forget(sample) for sample in (0, 50, 50, 20, 60)] == [True, True, True, False, True]


def test_a_new_session_counts_from_what_is_kept() -> None:
    outbox = Outbox(rate_hz=8_000)
    outbox.put(bytes(range(100)) * 2)
    drain(outbox)
    outbox.forget(40)
    outbox.begin_anew()
    assert outbox.origin_ms == 2.5
    outbox.forget(20)
    outbox.rewind()
    assert audio(drain(outbox)) == (bytes(range(100)) * 2)[60:]


def test_cancel_drops_what_waits() -> None:
    outbox = Outbox()
    outbox.put(bytes(20))
    outbox.mark(Mark.CANCEL)
    assert drain(outbox) == [Mark.CANCEL]


def test_without_tickets_what_is_sent_is_gone() -> None:
    outbox = Outbox()
    outbox.put(bytes(20))
    outbox.put(bytes(10))
    outbox.next()
    outbox.forget_sent()
    assert outbox.held_s == 5 / 16_000
    outbox.rewind()
    assert drain(outbox) == [bytes(10)]


def test_long_audio_is_sent_in_pieces_of_whole_samples() -> None:
    outbox = Outbox(sample_bytes=4)
    outbox.put(bytes(3 * PIECE_BYTES + 4))
    assert [len(item) for item in drain(outbox) if isinstance(item, bytes)] == [PIECE_BYTES] * 3 + [4]


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 2"):
        Outbox().put(bytes(3))
