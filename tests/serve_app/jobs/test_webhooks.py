"""Webhooks are signed, sent again with growing pauses, and given up in the end."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fakes.app_server import running_app
from serve_app.core.addresses import Networks
from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.opening import open_store
from serve_app.jobs.outbound import Outbound
from serve_app.jobs.records import Delivery, DeliveryState, Job, JobState, Outcome
from serve_app.jobs.signing import signing_key, webhook_headers
from serve_app.jobs.store import JobStore
from serve_app.jobs.threads import StoreThreads
from serve_app.jobs.webhooks import PAUSES_S, WebhookSender

NOW = 1_800_000_000.0


class Receiver:
    """A client's server: it notes what comes and answers as it was told, 200 in the end."""

    def __init__(self, *statuses: int, headers: dict[str, str] | None = None) -> None:
        self.statuses = list(statuses)
        self.headers = headers or {}
        self.came: list[tuple[str, dict[str, str], bytes]] = []

    async def hook(self, request: Request) -> Response:
        self.came.append((request.method, dict(request.headers), await request.body()))
        status = self.statuses.pop(0) if self.statuses else 200
        return Response("x" * 10, status_code=status, headers=self.headers)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/hook", self.hook, methods=["POST", "PUT"])])


class Outbox:
    """A store with one webhook in it, and a sender by a clock of the test's own."""

    def __init__(self, folder: Path, allowed: tuple[str, ...] = ("127.0.0.0/8",)) -> None:
        self.now = NOW
        self.store = StoreThreads(lambda: open_store(f"sqlite:///{folder / 'jobs.db'}"))
        self.outbound = Outbound(OutboundRules(Networks(allowed)))
        self.sender = WebhookSender(
            self.store,
            self.outbound,
            key=b"secret",
            now_s=lambda: self.now,
            jitter=lambda low, high: high,
        )

    async def put(self, url: str, method: str = "POST") -> None:
        def add(store: JobStore) -> None:
            job = Job(job_id="a", owner="kim", kind="native", parameters=(), created_s=NOW)
            store.add(job, max_waiting=9)
            store.claim("t", now_s=NOW, lease_s=9)
            done = Outcome(state=JobState.DONE, ended_s=NOW, expires_s=NOW + 10**6, result=b"{}")
            webhook = Delivery(
                delivery_id="msg_1",
                job_id="a",
                owner="kim",
                url=url,
                body='{"text": "Olá"}'.encode(),
                created_s=NOW,
                due_s=NOW,
                method=method,
            )
            assert store.finish("a", "t", done, webhook)

        await self.store.call(add)

    async def delivery(self) -> Delivery:
        (found,) = await self.store.call(lambda store: store.deliveries("kim", "a"))
        return found


@pytest.fixture
async def outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    outbox = Outbox(tmp_path)
    yield outbox
    await outbox.outbound.close()
    await outbox.store.close()


async def test_a_webhook_is_signed_and_sent_once(outbox: Outbox) -> None:
    receiver = Receiver()
    with running_app(receiver.app) as port:
        await outbox.put(f"http://127.0.0.1:{port}/hook", "PUT")
        assert await outbox.sender.send_due() == 1
        assert await outbox.sender.send_due() == 0
    ((method, headers, body),) = receiver.came
    assert (method, headers["webhook-id"], headers["webhook-timestamp"]) == ("PUT", "msg_1", str(int(NOW)))
    assert (headers["content-type"], headers["host"]) == ("application/json", f"127.0.0.1:{port}")
    assert json.loads(body) == {"text": "Olá"}
    signed = f"msg_1.{int(NOW)}.".encode() + body
    expected = base64.b64encode(hmac.new(b"secret", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert (await outbox.delivery()).state is DeliveryState.DELIVERED


async def test_it_is_sent_again_with_growing_pauses_and_the_same_id(outbox: Outbox) -> None:
    receiver = Receiver(500, 302, 404, headers={"location": "http://127.0.0.1:1/else"})
    with running_app(receiver.app) as port:
        await outbox.put(f"http://127.0.0.1:{port}/hook")
        for attempt, pause_s in enumerate(PAUSES_S[:3], start=1):
            assert await outbox.sender.send_due() == 1
            waiting = await outbox.delivery()
            assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, attempt)
            assert waiting.due_s == pytest.approx(outbox.now + 1.2 * pause_s)
            outbox.now += 1.2 * pause_s - 1
            assert await outbox.sender.send_due() == 0
            outbox.now += 2
        assert await outbox.sender.send_due() == 1
    assert (await outbox.delivery()).state is DeliveryState.DELIVERED
    assert len(receiver.came) == 4
    assert {headers["webhook-id"] for _, headers, _ in receiver.came} == {"msg_1"}
    assert len({headers["webhook-signature"] for _, headers, _ in receiver.came}) == 4


async def test_it_is_given_up_in_the_end_and_can_be_replayed(outbox: Outbox) -> None:
    receiver = Receiver(*[503] * (len(PAUSES_S) + 1))
    with running_app(receiver.app) as port:
        await outbox.put(f"http://127.0.0.1:{port}/hook")
        while await outbox.sender.send_due():
            outbox.now += 10 * 86_400
        failed = await outbox.delivery()
        assert (failed.state, failed.error) == (DeliveryState.FAILED, "HTTP 503")
        assert len(receiver.came) == len(PAUSES_S) + 1
        assert await outbox.store.call(lambda s: s.replay("kim", [], now_s=outbox.now)) == 1
        assert await outbox.sender.send_due() == 1
    assert (await outbox.delivery()).state is DeliveryState.DELIVERED
    assert {headers["webhook-id"] for _, headers, _ in receiver.came} == {"msg_1"}


async def test_a_receiver_says_when(outbox: Outbox) -> None:
    receiver = Receiver(429, 410, headers={"retry-after": "1000"})
    with running_app(receiver.app) as port:
        await outbox.put(f"http://127.0.0.1:{port}/hook")
        await outbox.sender.send_due()
        assert (await outbox.delivery()).due_s == outbox.now + 1_000
        outbox.now += 1_001
        await outbox.sender.send_due()
    gone = await outbox.delivery()
    assert (gone.state, gone.attempts) == (DeliveryState.FAILED, 2)


async def test_an_address_that_is_not_allowed_is_never_tried(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, allowed=())
    receiver = Receiver()
    with running_app(receiver.app) as port:
        await outbox.put(f"http://localhost:{port}/hook")
        assert await outbox.sender.send_due() == 1
    assert receiver.came == []
    refused = await outbox.delivery()
    assert refused.state is DeliveryState.FAILED
    assert "public internet" in refused.error
    await outbox.outbound.close()
    await outbox.store.close()


async def test_a_dead_receiver_is_tried_again(outbox: Outbox) -> None:
    with running_app(Receiver().app) as port:
        pass
    await outbox.put(f"http://127.0.0.1:{port}/hook")
    await outbox.sender.send_due()
    waiting = await outbox.delivery()
    assert (waiting.state, waiting.error) == (DeliveryState.PENDING, "could not connect")


def test_the_standards_own_example() -> None:
    """Of the Standard Webhooks' reference libraries."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = webhook_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', key, 1_614_265_330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets() -> None:
    assert signing_key("plain text") == b"plain text"
    with pytest.raises(ValueError, match="base64"):
        signing_key("whsec_%%%")
    assert "webhook-signature" not in webhook_headers("a", b"", None, NOW)
