"""What is replaced in Serve's own server: requests are named once, messages fetched as they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from ray.serve._private import http_util

from deployments.serve_patches import MAX_WAITING_MESSAGES, BoundedReceive, name_requests_once
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app


@pytest.mark.parametrize("given", [{}, {"x-request-id": "visit-7"}])
async def test_an_answer_through_serves_middlewares_has_one_id(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    monkeypatch.setattr(http_util, "RequestIdMiddleware", http_util.RequestIdMiddleware)
    name_requests_once()
    served = http_util._apply_middlewares(create_app(FakeService(), FakeSettings()), [])
    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        answer = await client.get("/health/live", headers=given)
    ids = answer.headers.get_list("x-request-id")
    assert len(ids) == 1
    assert ids[0] == given.get("x-request-id", ids[0])


class Client:
    """Sends `messages`, then nothing more."""

    def __init__(self, messages: Iterable[dict[str, Any]]) -> None:
        self._messages = iter(messages)
        self.num_fetched = 0

    async def receive(self) -> dict[str, Any]:
        for message in self._messages:
            self.num_fetched += 1
            return message
        return await asyncio.get_running_loop().create_future()


async def settled() -> None:
    for _ in range(5 * MAX_WAITING_MESSAGES):
        await asyncio.sleep(0)


async def test_frames_of_a_socket_are_fetched_as_the_door_reads_them() -> None:
    frames: list[dict[str, Any]] = [{"type": "websocket.receive", "bytes": bytes([i])} for i in range(20)]
    gone = {"type": "websocket.disconnect", "code": 1001}
    client = Client([*frames, gone])
    receive = BoundedReceive({"type": "websocket"}, client.receive, asyncio.get_running_loop())
    leaving = receive.fetch_until_disconnect_task()
    await settled()
    assert client.num_fetched == 0
    assert [await receive() for _ in frames] == frames
    assert not leaving.done()
    assert [await receive(), await receive()] == [gone, gone]
    assert await leaving == 1001


async def test_of_a_body_some_pieces_are_fetched_ahead() -> None:
    client = Client({"type": "http.request", "body": bytes([i]), "more_body": True} for i in range(100))
    receive = BoundedReceive({"type": "http"}, client.receive, asyncio.get_running_loop())
    leaving = receive.fetch_until_disconnect_task()
    await settled()
    assert client.num_fetched == MAX_WAITING_MESSAGES
    assert [(await receive())["body"] for _ in range(50)] == [bytes([i]) for i in range(50)]
    await settled()
    assert client.num_fetched == 50 + MAX_WAITING_MESSAGES
    leaving.cancel()
