"""The audio of one connection against a limit that lets some through, or none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.access.caller import Caller, KeyLimits
from serve_app.access.limits import Limiter, Usage
from serve_app.core.errors import LimitReached
from serve_app.web.live import audio_budget
from serve_app.web.live.audio_budget import BLOCK_S, MAX_HELD_S, AudioBudget


class Scripted(Usage):
    """Answers each charge with the next of `answers`, the last one for ever: None, or seconds to wait."""

    def __init__(self, *answers: int | None) -> None:
        super().__init__(Limiter(), [("key:a", "this key", KeyLimits(audio_minutes_per_day=1))])
        self._answers = list(answers)
        self.charged_s: list[float] = []

    async def audio(self, seconds: float) -> None:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            raise LimitReached("Limit reached", answer)
        self.charged_s.append(seconds)


async def covered(budget: AudioBudget, pieces: Sequence[float]) -> float:
    return sum([piece for piece in pieces if await budget.covers(piece)])


async def test_audio_is_charged_ahead_in_blocks() -> None:
    usage = Scripted(None)
    budget = AudioBudget(usage)
    assert await covered(budget, [0.5] * 9) == 4.5
    assert usage.charged_s == [BLOCK_S] * 3
    assert await budget.covers(7.0)
    assert usage.charged_s[3:] == [6.0]


async def test_a_limit_that_soon_has_room_holds_the_connection_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_budget, "RETRY_S", 0.001)
    budget = AudioBudget(Scripted(None, 1, 2, 1, None))
    assert await covered(budget, [1.0] * 6) == 6.0


async def test_a_limit_that_has_no_room_for_long_ends_it_at_once() -> None:
    budget = AudioBudget(Scripted(None, round(MAX_HELD_S) + 1))
    assert await budget.covers(2.0)
    with pytest.raises(LimitReached):
        await budget.covers(0.1)
    assert not await budget.covers(0.1)


async def test_it_is_held_back_for_so_long_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_budget, "RETRY_S", 0.01)
    monkeypatch.setattr(audio_budget, "MAX_HELD_S", 1.05)
    usage = Scripted(1)
    budget = AudioBudget(usage)
    with pytest.raises(LimitReached):
        await budget.covers(1.0)
    assert usage.charged_s == []


@given(pieces=st.lists(st.floats(0.001, 3.0), max_size=60), limit_s=st.integers(1, 60))
async def test_never_more_than_the_limit_and_never_a_block_less(pieces: list[float], limit_s: int) -> None:
    usage = Limiter(of_key=KeyLimits(audio_minutes_per_day=limit_s / 60)).usage(Caller("a"))
    budget, used_s = AudioBudget(usage), 0.0
    for piece in pieces:
        try:
            if not await budget.covers(piece):
                break
        except Exception:
            assert used_s + piece > limit_s - 2 * BLOCK_S
            break
        used_s += piece
    assert used_s <= limit_s + 1e-6
