"""Deletion on request, by the door that asks every store."""

from __future__ import annotations

import httpx
import pytest

from fakes.fake_service import FakeService, FakeSettings
from serve_app.core.erasure import Erasure
from serve_app.web.app import create_app
from serve_app.web.door import Kept


class Store:
    def __init__(self, name: str, num_things: int = 1, *, only_if_asked: bool = False) -> None:
        self.name = name
        self.only_if_asked = only_if_asked
        self.num_things = num_things
        self.asked: list[Erasure] = []

    async def erase(self, wanted: Erasure) -> int:
        self.asked.append(wanted)
        if self.num_things < 0:
            raise OSError("the words of the patient")
        return self.num_things


async def ask(query: str, *stores: Store) -> httpx.Response:
    app = create_app(FakeService(), FakeSettings(), kept=Kept(erasers=stores))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        return await client.delete(f"/v1/data?{query}")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("session=s-1", Erasure(session_id="s-1")),
        ("key=k1", Erasure(key_id="k1")),
        ("clip=c1&audit=false", Erasure(clip_id="c1")),
    ],
)
async def test_every_store_is_asked(query, wanted):
    stores = Store("clips", 2), Store("cache", 0), Store("audit", 9, only_if_asked=True)
    answer = await ask(query, *stores)
    assert (answer.status_code, answer.json()) == (200, {"erased": {"clips": 2, "cache": 0}, "failed": []})
    assert [store.asked for store in stores] == [[wanted], [wanted], []]


async def test_the_audit_log_is_asked_where_the_request_says_so():
    answer = await ask("key=k1&audit=true", Store("audit", 9, only_if_asked=True))
    assert answer.json()["erased"] == {"audit": 9}


async def test_a_store_that_fails_is_named_and_the_others_still_erase(capsys):
    answer = await ask("key=k1", Store("clips", -1), Store("cache", 3))
    assert (answer.status_code, answer.json()) == (503, {"erased": {"cache": 3}, "failed": ["clips"]})
    assert "patient" not in answer.text


@pytest.mark.parametrize(
    "query",
    ["", "session=", "session=a&key=b", "session=a&session=b", "other=1&session=a", "session=a&audit=maybe",
     "session=" + "a" * 300],
)  # fmt: skip
async def test_what_is_not_clear_erases_nothing(query):
    store = Store("clips")
    answer = await ask(query, store)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert store.asked == []
