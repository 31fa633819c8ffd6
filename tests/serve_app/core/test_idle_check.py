"""When a model is tried: seldom, never in the way, and twice before it is held to be broken."""

from __future__ import annotations

import asyncio

from fakes.fake_time import FakeClock
from serve_app.core.idle_check import BUSY_PERIOD_S, IDLE_PERIOD_S, IdleCheck


class Tried:
    def __init__(self) -> None:
        self.complaint = ""
        self.num_times = 0
        self.clock = FakeClock()
        self.check = IdleCheck(self._try, self.clock)

    async def _try(self) -> str:
        self.num_times += 1
        if self.complaint == "raises":
            raise RuntimeError("no memory")
        return self.complaint

    async def poll(self, *, idle: bool = True, has_room: bool = True, is_suspect: bool = False) -> str:
        fault = self.check.poll(idle=idle, has_room=has_room, is_suspect=is_suspect)
        for _ in range(3):
            await asyncio.sleep(0)
        return fault


async def test_once_a_minute_while_idle() -> None:
    tried = Tried()
    for second in range(0, 601, 5):
        await tried.poll()
        assert tried.num_times == second // IDLE_PERIOD_S
        tried.clock.pass_s(5)


async def test_never_while_work_waits_and_seldom_while_there_is_some() -> None:
    tried = Tried()
    tried.clock.pass_s(10 * BUSY_PERIOD_S)
    await tried.poll(idle=False, has_room=False, is_suspect=True)
    assert tried.num_times == 0
    await tried.poll(idle=False)
    assert tried.num_times == 1
    tried.clock.pass_s(BUSY_PERIOD_S - 1)
    await tried.poll(idle=False)
    assert tried.num_times == 1
    await tried.poll(idle=False, is_suspect=True)
    assert tried.num_times == 2


async def test_one_failure_is_looked_at_again_at_once_and_two_are_a_fault() -> None:
    tried = Tried()
    tried.complaint = "it hears nothing"
    tried.clock.pass_s(IDLE_PERIOD_S)
    assert await tried.poll() == ""
    assert await tried.poll() == ""
    assert tried.num_times == 2
    assert await tried.poll(has_room=False) == "it hears nothing"


async def test_a_failure_in_passing_is_forgotten() -> None:
    tried = Tried()
    tried.complaint = "raises"
    tried.clock.pass_s(IDLE_PERIOD_S)
    assert await tried.poll() == ""
    tried.complaint = ""
    assert await tried.poll() == ""
    assert await tried.poll() == ""
    assert tried.num_times == 2
