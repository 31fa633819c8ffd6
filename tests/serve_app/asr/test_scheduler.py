"""Whose turn it is, as tables: jobs in, batches out."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.scheduler import Batch, Scheduler, SchedulerLimits
from serve_app.core.errors import QueueFull
from serve_app.core.jobs import Role

F, I, O = Role.FINAL, Role.INTERIM, Role.RECORDING  # noqa: E741


def filled(limits: SchedulerLimits, *jobs: tuple[Role, str] | tuple[Role, str, Hashable]) -> Scheduler[str]:
    scheduler: Scheduler[str] = Scheduler(limits)
    for role, name, *key in jobs:
        scheduler.add(role, key[0] if key else name, name)
    return scheduler


def take_all(scheduler: Scheduler[str]) -> list[str]:
    """Batches that start at once, their jobs joined by +."""
    batches = []
    while (batch := scheduler.next_batch()) is not None:
        batches.append("+".join(batch.payloads))
    return batches


def run_one_by_one(scheduler: Scheduler[str]) -> list[str]:
    """Batches in the order in which a single worker would get them."""
    batches = []
    while (batch := scheduler.next_batch()) is not None:
        batches.append("+".join(batch.payloads))
        scheduler.done(batch)
    return batches


ONE_WORKER = SchedulerLimits(num_workers=1)


@pytest.mark.parametrize(
    ("jobs", "order"),
    [
        ([(O, "o1"), (I, "i1"), (F, "f1")], ["f1", "i1", "o1"]),
        ([(I, "i1"), (F, "f1"), (I, "i2"), (F, "f2")], ["f1", "f2", "i1", "i2"]),
        ([(F, "f1"), (F, "f2"), (F, "f3")], ["f1", "f2", "f3"]),
        ([], []),
    ],
)
def test_order_of_one_worker(jobs: list[tuple[Role, str]], order: list[str]) -> None:
    assert run_one_by_one(filled(ONE_WORKER, *jobs)) == order


@pytest.mark.parametrize(
    ("limits", "jobs", "started"),
    [
        (SchedulerLimits(num_workers=2), [(F, "f1"), (F, "f2"), (F, "f3")], ["f1", "f2"]),
        (SchedulerLimits(num_workers=2), [(I, "i1"), (I, "i2")], ["i1"]),
        (SchedulerLimits(num_workers=2), [(I, "i1"), (I, "i2"), (O, "o1"), (O, "o2")], ["i1", "o1"]),
        (SchedulerLimits(num_workers=2), [(O, "o1"), (O, "o2")], ["o1"]),
        (
            SchedulerLimits(num_workers=3, max_interim_workers=2),
            [(I, "i1"), (I, "i2"), (I, "i3")],
            ["i1", "i2"],
        ),
        (SchedulerLimits(num_workers=1, max_interim_workers=4), [(I, "i1"), (I, "i2")], ["i1"]),
    ],
)
def test_workers_each_role_may_hold(
    limits: SchedulerLimits, jobs: list[tuple[Role, str]], started: list[str]
) -> None:
    assert take_all(filled(limits, *jobs)) == started


def test_a_final_gets_the_worker_that_interims_and_recordings_leave() -> None:
    scheduler = filled(SchedulerLimits(num_workers=2), (I, "i1"), (I, "i2"))
    assert take_all(scheduler) == ["i1"]
    scheduler.add(F, 0, "f1")
    assert take_all(scheduler) == ["f1"]


BATCHES = SchedulerLimits(num_workers=1, max_batch={F: 3, I: 2})


@pytest.mark.parametrize(
    ("jobs", "order"),
    [
        ([(F, "f1", 1), (F, "f2", 1), (F, "f3", 1), (F, "f4", 1)], ["f1+f2+f3", "f4"]),
        ([(F, "f1", 1), (F, "f2", 2), (F, "f3", 1)], ["f1+f3", "f2"]),
        ([(F, "f1", 1), (I, "i1", 1), (F, "f2", 1)], ["f1+f2", "i1"]),
        ([(I, "i1", 1), (I, "i2", 1), (I, "i3", 1)], ["i1+i2", "i3"]),
        ([(O, "o1", 1), (O, "o2", 1)], ["o1", "o2"]),
    ],
)
def test_batches_have_one_key_and_one_role(jobs: list[tuple[Role, str, int]], order: list[str]) -> None:
    assert run_one_by_one(filled(BATCHES, *jobs)) == order


def test_recordings_do_not_starve_behind_interims_on_one_worker() -> None:
    scheduler = filled(SchedulerLimits(num_workers=1, max_interims_in_a_row=3), (O, "o1"), (O, "o2"))
    order = []
    for turn in range(10):
        scheduler.add(I, turn, f"i{turn}")
        batch = scheduler.next_batch()
        assert batch is not None
        order.append(batch.payloads[0])
        scheduler.done(batch)
    assert order == ["i0", "i1", "i2", "o1", "i3", "i4", "i5", "o2", "i6", "i7"]


def test_a_full_queue_refuses_one_role_and_takes_the_others() -> None:
    scheduler = filled(SchedulerLimits(max_queue=1), (I, "i1"))
    with pytest.raises(QueueFull):
        scheduler.add(I, 0, "i2")
    scheduler.add(F, 0, "f1")
    assert (scheduler.num_waiting(I), scheduler.num_waiting(F)) == (1, 1)


def test_what_is_taken_back_is_never_begun() -> None:
    scheduler = filled(ONE_WORKER, (F, "f1"), (F, "f2"))
    assert scheduler.remove(F, "f1") is True
    assert scheduler.remove(F, "f1") is False
    assert run_one_by_one(scheduler) == ["f2"]


def test_drain_empties_every_queue() -> None:
    scheduler = filled(ONE_WORKER, (O, "o1"), (I, "i1"), (F, "f1"))
    assert sorted(scheduler.drain()) == ["f1", "i1", "o1"]
    assert scheduler.next_batch() is None


@pytest.mark.parametrize(
    "wrong", [{"num_workers": 0}, {"max_interim_workers": 0}, {"max_queue": 0}, {"max_batch": {F: 0}}]
)
def test_impossible_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SchedulerLimits(**wrong)  # type: ignore[arg-type]


steps = st.lists(st.one_of(st.tuples(st.sampled_from(list(Role)), st.integers(0, 2)), st.none()), max_size=60)


@given(steps, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_every_job_runs_once_and_no_limit_is_broken(
    plan: list[tuple[Role, int] | None], num_workers: int, max_interim_workers: int, max_batch: int
) -> None:
    limits = SchedulerLimits(
        num_workers=num_workers,
        max_interim_workers=max_interim_workers,
        max_batch=dict.fromkeys(Role, max_batch),
    )
    scheduler: Scheduler[tuple[int, Role, int]] = Scheduler(limits)
    running: list[Batch[tuple[int, Role, int]]] = []
    seen: list[int] = []

    def start() -> None:
        while (batch := scheduler.next_batch()) is not None:
            assert batch.role is F or not scheduler.num_waiting(F)
            assert len({(role, key) for _, role, key in batch.payloads}) == 1
            assert len(batch.payloads) <= max_batch
            seen.extend(number for number, _, _ in batch.payloads)
            running.append(batch)
        assert len(running) <= num_workers
        assert sum(batch.role is I for batch in running) <= limits.max_workers(I)

    for number, step in enumerate(plan):
        if step is not None:
            scheduler.add(step[0], step[1], (number, *step))
        elif running:
            scheduler.done(running.pop(0))
        start()
    while running:
        scheduler.done(running.pop(0))
        start()
    assert sorted(seen) == [number for number, step in enumerate(plan) if step is not None]
