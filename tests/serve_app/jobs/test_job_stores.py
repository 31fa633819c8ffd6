"""Every job store keeps the same promises: SQLite always, PostgreSQL and Redis where their servers are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from serve_app.core.paging import Place, place_of
from serve_app.jobs.opening import database_address, open_store
from serve_app.jobs.records import Delivery, DeliveryState, Job, JobState, Outcome
from serve_app.jobs.store import JobStore

NOW = 1_800_000_000.0


def job(job_id: str, owner: str = "", **fields: Any) -> Job:
    fields.setdefault("created_s", NOW)
    return Job(job_id=job_id, owner=owner, kind="native", parameters=(("language", "pt"),), **fields)


def add(store: JobStore, *jobs: Job) -> None:
    for one in jobs:
        assert store.add(one, max_waiting=1_000) == one


def claim(store: JobStore, token: str, now_s: float = NOW, lease_s: float = 10) -> Job | None:
    return store.claim(token, now_s=now_s, lease_s=lease_s)


def done(result: bytes = b'{"text":"x"}') -> Outcome:
    return Outcome(state=JobState.DONE, ended_s=NOW + 5, expires_s=NOW + 100, result=result)


def webhook(job_id: str = "a", owner: str = "", **fields: Any) -> Delivery:
    return Delivery(
        delivery_id=f"msg_{job_id}",
        job_id=job_id,
        owner=owner,
        url="https://example.com/hook",
        body=b'{"type":"job.done"}',
        created_s=NOW,
        due_s=NOW,
        **fields,
    )


def test_a_job_goes_from_queued_to_done(store: JobStore) -> None:
    new = job("a", "kim", audio="a.flac", webhook_url="https://example.com/hook", fingerprint="f" * 64)
    add(store, new)
    assert store.get("a", "kim") == new
    assert store.num_open() == (1, 0)
    held = claim(store, "t1")
    assert held is not None
    assert (held.state, held.attempts, held.started_s, held.parameters) == (
        JobState.RUNNING,
        1,
        NOW,
        (("language", "pt"),),
    )
    assert store.num_open() == (0, 1)
    assert claim(store, "t2") is None
    assert store.renew("a", "t1", lease_until_s=NOW + 20, progress=0.5)
    assert store.get("a", "kim").progress == 0.5
    assert store.keep_part("a", "t1", "0001", b"\x00\xffpart")
    assert store.parts("a") == {"0001": b"\x00\xffpart"}
    assert store.result("a") is None
    assert store.finish("a", "t1", done(), webhook("a", "kim"))
    ended = store.get("a", "kim")
    assert (ended.state, ended.progress, ended.ended_s, ended.expires_s) == (
        JobState.DONE,
        1.0,
        NOW + 5,
        NOW + 100,
    )
    assert store.result("a") == b'{"text":"x"}'
    assert store.parts("a") == {}
    assert [one.delivery_id for one in store.deliveries("kim", "a")] == ["msg_a"]


def test_only_its_owner_sees_a_job(store: JobStore) -> None:
    add(store, job("a", "kim"), job("b", "lee"))
    assert store.get("a", "lee") is None
    assert [one.job_id for one in store.newest("lee", state=None, limit=10)] == ["b"]
    assert store.cancel("a", "lee", now_s=NOW, expires_s=NOW + 1) is None
    assert store.get("a", "kim").state is JobState.QUEUED
    held = claim(store, "t", NOW)
    store.finish(held.job_id, "t", done(), webhook(held.job_id, held.owner))
    assert store.deliveries("another", held.job_id) == []
    assert store.replay("another", [held.job_id], now_s=NOW) == 0


def test_the_newest_come_first_and_by_state(store: JobStore) -> None:
    add(store, *(job(f"j{n}", created_s=NOW + n) for n in range(5)))
    claim(store, "t")
    assert [one.job_id for one in store.newest("", state=None, limit=3)] == ["j4", "j3", "j2"]
    assert [one.job_id for one in store.newest("", state=JobState.RUNNING, limit=3)] == ["j0"]


def test_owners_take_turns_and_the_oldest_of_each_is_first(store: JobStore) -> None:
    add(store, *(job(f"kim{n}", "kim", created_s=NOW + n) for n in range(4)))
    add(store, *(job(f"lee{n}", "lee", created_s=NOW + 10 + n) for n in range(2)))
    order = [claim(store, f"t{n}", NOW + 100).job_id for n in range(6)]
    assert order == ["kim0", "lee0", "kim1", "lee1", "kim2", "kim3"]


def test_a_job_whose_process_died_is_taken_up_with_its_parts(store: JobStore) -> None:
    add(store, job("a"))
    claim(store, "dead", NOW, lease_s=10)
    assert store.keep_part("a", "dead", "one", b"1")
    assert claim(store, "t", NOW + 9) is None
    taken = claim(store, "t", NOW + 11)
    assert taken is not None
    assert (taken.attempts, taken.started_s) == (2, NOW)
    assert store.parts("a") == {"one": b"1"}
    # The first was slow, not dead: nothing that it still does counts.
    assert not store.renew("a", "dead", lease_until_s=NOW + 99, progress=0.9)
    assert not store.keep_part("a", "dead", "two", b"2")
    assert not store.finish("a", "dead", done(b"its own"), webhook())
    store.release("a", "dead", due_s=NOW, counts=True)
    assert store.get("a", "").state is JobState.RUNNING
    assert store.deliveries("", "a") == []
    assert store.finish("a", "t", done(b"this"), None)
    assert store.result("a") == b"this"


def test_a_part_is_replaced_by_a_newer_one_of_its_name(store: JobStore) -> None:
    add(store, job("a"))
    claim(store, "t")
    for body in (b"old", b"new"):
        assert store.keep_part("a", "t", "one", body)
    assert store.parts("a") == {"one": b"new"}


def test_a_released_job_waits_until_it_is_due(store: JobStore) -> None:
    add(store, job("a"))
    claim(store, "t")
    store.release("a", "t", due_s=NOW + 30, counts=True)
    assert (store.get("a", "").state, store.get("a", "").attempts) == (JobState.QUEUED, 1)
    assert claim(store, "t2", NOW + 29) is None
    assert claim(store, "t2", NOW + 31).attempts == 2
    store.release("a", "t2", due_s=NOW, counts=False)
    assert store.get("a", "").attempts == 1


def test_an_idempotency_key_makes_one_job_an_owner(store: JobStore) -> None:
    first = job("a", "kim", idempotency_key="k")
    add(store, first, job("b", "lee", idempotency_key="k"), job("c", "kim"), job("d", "kim"))
    assert store.add(job("e", "kim", idempotency_key="k"), max_waiting=1_000) == first
    assert store.get("e", "kim") is None
    claim(store, "t")
    assert store.add(job("e", "kim", idempotency_key="k"), max_waiting=1_000).state is JobState.RUNNING


def test_one_key_used_at_once_makes_one_job(store: JobStore) -> None:
    at_once = threading.Barrier(4)

    def submit(name: str) -> str:
        at_once.wait(30)
        return store.add(job(name, "kim", idempotency_key="k"), max_waiting=1_000).job_id

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(submit, "abcd"))) == 1
    assert len(store.newest("kim", state=None, limit=10)) == 1


def test_an_owner_has_room_for_so_many(store: JobStore) -> None:
    assert store.add(job("a", "kim"), max_waiting=1) is not None
    assert store.add(job("b", "kim"), max_waiting=1) is None
    assert store.add(job("c", "lee"), max_waiting=1) is not None


def test_a_cancelled_job_is_lost_to_the_process_that_works_on_it(store: JobStore) -> None:
    add(store, job("a", audio="a"), job("b"))
    claim(store, "t")
    cancelled = store.cancel("a", "", now_s=NOW + 1, expires_s=NOW + 50)
    assert (cancelled.state, cancelled.ended_s, cancelled.expires_s) == (
        JobState.CANCELLED,
        NOW + 1,
        NOW + 50,
    )
    assert not store.renew("a", "t", lease_until_s=NOW + 99, progress=0.5)
    assert not store.finish("a", "t", done(), None)
    assert store.cancel("b", "", now_s=NOW, expires_s=NOW).state is JobState.CANCELLED
    assert claim(store, "t2", NOW + 1_000) is None


def test_an_ended_job_is_forgotten_once_its_audio_is_gone(store: JobStore) -> None:
    add(store, job("a", audio="a.flac", idempotency_key="k"), job("b", audio="b.flac"))
    claim(store, "t")
    assert store.done_with_audio() == []
    store.finish("a", "t", done(), webhook())
    assert [one.job_id for one in store.done_with_audio()] == ["a"]
    assert store.forget_expired(NOW + 101) == 0
    store.cancel("a", "", now_s=NOW, expires_s=NOW)
    assert store.get("a", "") is not None
    store.audio_gone("a")
    assert store.done_with_audio() == []
    assert store.get("a", "").audio == ""
    assert store.cancel("a", "", now_s=NOW, expires_s=NOW).state is JobState.DONE
    assert store.get("a", "") is None
    assert store.result("a") is None
    assert store.claim_deliveries(now_s=NOW + 1, lease_s=5, limit=9) == []
    assert store.add(job("c", idempotency_key="k"), max_waiting=9).job_id == "c"


def test_results_expire(store: JobStore) -> None:
    add(store, job("a"), job("b"))
    for token in ("t1", "t2"):
        held = claim(store, token)
        ended = replace(done(), expires_s=NOW + (50 if held.job_id == "a" else 150))
        store.finish(held.job_id, token, ended, webhook(held.job_id))
    assert store.forget_expired(NOW + 49) == 0
    assert store.forget_expired(NOW + 51) == 1
    assert store.forget_expired(NOW + 51) == 0
    assert [one.job_id for one in store.newest("", state=None, limit=9)] == ["b"]
    assert store.deliveries("", "a") == []
    assert store.replay("", [], now_s=NOW) == 0


def test_webhooks_are_given_out_once_while_their_lease_holds(store: JobStore) -> None:
    add(store, job("a"))
    claim(store, "t")
    store.finish("a", "t", done(), webhook(method="PUT"))
    assert store.claim_deliveries(now_s=NOW - 1, lease_s=30, limit=9) == []
    (first,) = store.claim_deliveries(now_s=NOW, lease_s=30, limit=9)
    assert (first.body, first.attempts, first.method) == (b'{"type":"job.done"}', 1, "PUT")
    assert store.claim_deliveries(now_s=NOW + 29, lease_s=30, limit=9) == []
    (again,) = store.claim_deliveries(now_s=NOW + 31, lease_s=30, limit=9)
    assert (again.delivery_id, again.attempts) == ("msg_a", 2)
    store.settle_delivery(replace(again, due_s=NOW + 60, error="HTTP 503"))
    assert store.deliveries("", "a")[0].error == "HTTP 503"
    (third,) = store.claim_deliveries(now_s=NOW + 61, lease_s=30, limit=9)
    store.settle_delivery(replace(third, state=DeliveryState.DELIVERED))
    assert store.claim_deliveries(now_s=NOW + 1_000, lease_s=30, limit=9) == []


def test_webhooks_are_replayed_under_their_ids(store: JobStore) -> None:
    add(store, job("a", "kim"), job("b", "kim"))
    for token in ("t1", "t2"):
        held = claim(store, token)
        store.finish(held.job_id, token, done(), webhook(held.job_id, "kim"))
    sent = store.claim_deliveries(now_s=NOW, lease_s=30, limit=9)
    states = {"a": DeliveryState.DELIVERED, "b": DeliveryState.FAILED}
    for one in sent:
        store.settle_delivery(replace(one, state=states[one.job_id]))
    assert store.claim_deliveries(now_s=NOW + 99, lease_s=30, limit=9) == []
    assert store.replay("kim", [], now_s=NOW + 100) == 1
    (again,) = store.claim_deliveries(now_s=NOW + 100, lease_s=30, limit=9)
    assert (again.delivery_id, again.attempts) == ("msg_b", 1)
    assert store.replay("kim", ["a"], now_s=NOW + 100) == 1
    (again,) = store.claim_deliveries(now_s=NOW + 100, lease_s=30, limit=9)
    assert again.delivery_id == "msg_a"


def test_workers_that_claim_at_once_get_each_job_once(store: JobStore, store_address: str) -> None:
    add(store, *(job(f"{owner}{n}", owner, created_s=NOW + n) for owner in ("kim", "lee") for n in range(10)))
    at_once = threading.Barrier(4)

    def work(worker: int) -> list[Job]:
        own = open_store(store_address)
        mine: list[Job] = []
        at_once.wait(30)
        while (held := claim(own, f"w{worker}-{len(mine)}", NOW + 100, lease_s=1_000)) is not None:
            mine.append(held)
        own.close()
        return mine

    with ThreadPoolExecutor(4) as threads:
        claimed = [held.job_id for mine in threads.map(work, range(4)) for held in mine]
    assert len(claimed) == len(set(claimed)) == 20


def test_a_store_that_is_opened_again_has_what_it_had(store: JobStore, store_address: str) -> None:
    add(store, job("a"))
    again = open_store(store_address)
    assert again.get("a", "") == job("a")
    again.close()


def test_stores_that_open_at_once_make_the_tables_once(store_address: str) -> None:
    at_once = threading.Barrier(3)

    def opened(_: int) -> int:
        at_once.wait(30)
        store = open_store(store_address)
        store.add(job(f"j{_}"), max_waiting=9)
        store.close()
        return 1

    with ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(opened, range(3))) == 3
    store = open_store(store_address)
    assert len(store.newest("", state=None, limit=9)) == 3
    store.close()


@pytest.mark.parametrize(
    ("given", "redis", "address"),
    [
        (None, None, "sqlite:////var/cache/jobs.db"),
        (None, "redis://host/1", "redis://host/1"),
        ("postgresql://u@h/db", "redis://host/1", "postgresql://u@h/db"),
        ("postgresql+psycopg://u@h/db", None, "postgresql+psycopg://u@h/db"),
    ],
)
def test_the_address_of_the_store(given: str | None, redis: str | None, address: str) -> None:
    assert database_address(given, redis, Path("/var/cache")) == address


@pytest.mark.parametrize("address", ["mysql://h/db", "jobs.db", "http://h", ""])
def test_an_address_of_no_store_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="jobs_database"):
        database_address(address or "file:///x", None, Path("/var/cache"))


def test_a_job_that_is_cancelled_while_it_is_claimed_stays_cancelled(
    store: JobStore, store_address: str
) -> None:
    """Whichever comes first, the cancelled job is not worked on in the end."""
    for number in range(20):
        job_id = f"j{number}"
        add(store, job(job_id))
        at_once = threading.Barrier(2)
        other = open_store(store_address)

        def cancel(
            job_id: str = job_id, other: JobStore = other, at_once: threading.Barrier = at_once
        ) -> None:
            at_once.wait(30)
            other.cancel(job_id, "", now_s=NOW, expires_s=NOW + 9)

        thread = threading.Thread(target=cancel)
        thread.start()
        at_once.wait(30)
        claim(store, "t")
        thread.join()
        other.close()
        assert store.get(job_id, "").state is JobState.CANCELLED
        assert not store.renew(job_id, "t", lease_until_s=NOW + 99, progress=0.5)


def test_pages_go_on_where_the_last_one_ended_although_jobs_come_and_go(store: JobStore) -> None:
    moments = [NOW, NOW, NOW, NOW + 0.25, NOW + 0.5]
    add(store, *(job(f"j{count}", created_s=moment) for count, moment in enumerate(moments)))
    first = store.newest("", state=None, limit=2)
    assert [one.job_id for one in first] == ["j4", "j3"]
    add(store, job("new", created_s=NOW + 9))
    store.cancel("j3", "", now_s=NOW, expires_s=NOW)
    store.cancel("j3", "", now_s=NOW, expires_s=NOW)
    assert store.get("j3", "") is None
    before = place_of(str(Place(first[-1].created_s, first[-1].job_id)))
    second = store.newest("", state=None, limit=2, before=before)
    assert [one.job_id for one in second] == ["j2", "j1"]
    third = store.newest("", state=None, limit=2, before=Place(second[-1].created_s, "j1"))
    assert [one.job_id for one in third] == ["j0"]
