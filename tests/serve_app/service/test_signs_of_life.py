"""A replica that works is never cut, however long its queue; one that says nothing any more is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from fakes.fake_time import run_in_fake_time
from serve_app.service.ports import ReplicaLost
from serve_app.service.signs_of_life import BEAT_S, SILENCE_S, with_beats, without_beats


async def answers(*after_s: float, forgotten: list[bool] | None = None) -> AsyncGenerator[int, None]:
    try:
        for number, seconds in enumerate(after_s):
            await asyncio.sleep(seconds)
            yield number
    finally:
        if forgotten is not None:
            forgotten.append(True)


def test_beats_fill_the_time_between_answers() -> None:
    async def heard() -> list[int | None]:
        return [item async for item in with_beats(answers(0.5, 2.5 * BEAT_S, 0.0))]

    assert run_in_fake_time(heard()) == [0, None, None, 1, 2]


@pytest.mark.parametrize("queue_s", [1.0, 3600.0])
def test_an_answer_that_waited_in_a_queue_is_waited_for(queue_s: float) -> None:
    async def heard() -> list[int]:
        return [item async for item in without_beats(with_beats(answers(queue_s)), "it")]

    assert run_in_fake_time(heard()) == [0]


def test_silence_is_a_loss_and_keeps_what_was_said() -> None:
    async def heard() -> None:
        stream = without_beats(answers(1.0, 19.0, 3600.0), "the replica")
        assert [await anext(stream), await anext(stream)] == [0, 1]
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(ReplicaLost, match="the replica has said nothing for 20 s"):
            await anext(stream)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(SILENCE_S)

    run_in_fake_time(heard())


def test_a_stream_left_early_is_closed() -> None:
    forgotten: list[bool] = []

    async def leave() -> None:
        stream = with_beats(answers(0.0, 3600.0, forgotten=forgotten))
        assert await anext(stream) == 0
        assert await anext(stream) is None
        await stream.aclose()  # type: ignore[attr-defined]

    run_in_fake_time(leave())
    assert forgotten == [True]


def test_an_error_passes_through() -> None:
    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("no such thing")

    async def heard() -> None:
        async for _ in without_beats(with_beats(failing()), "it"):
            pass

    with pytest.raises(ValueError, match="no such thing"):
        run_in_fake_time(heard())
