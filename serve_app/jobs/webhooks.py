"""Webhooks: signed as Standard Webhooks says, sent from the outbox, and again with growing pauses.

A webhook is sent at least once. Its `webhook-id` stays the same, so that a receiver drops what it has: a
process that dies between the receiver's answer and our note of it leaves a second delivery to the next.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog
from msgspec.structs import replace

from serve_app.core.errors import AddressRefused, JobsUnavailable
from serve_app.jobs.counting import JobCounts, Uncounted
from serve_app.jobs.outbound import WEBHOOK_TIMEOUT_S, NotReached, Outbound, Reply
from serve_app.jobs.records import Delivery, DeliveryState
from serve_app.jobs.signing import webhook_headers
from serve_app.jobs.threads import StoreThreads

log = structlog.get_logger(__name__)

PAUSES_S: Final = (5, 30, 120, 600, 1_800, 3_600, 7_200, 18_000, 36_000)
"""After each failed attempt; after the last one it is given up: some 19 hours in all."""
JITTER: Final = 0.2
MAX_RETRY_AFTER_S: Final = 3_600
LEASE_S: Final = 2 * WEBHOOK_TIMEOUT_S + 30
MAX_AT_ONCE: Final = 8
UNAVAILABLE_PAUSE_S: Final = 5.0
_GONE: Final = 410


def new_delivery_id() -> str:
    return f"msg_{secrets.token_hex(16)}"


class WebhookSender:
    """Sends what is due, until it is cancelled; one in every ingress replica."""

    def __init__(
        self,
        store: StoreThreads,
        outbound: Outbound,
        *,
        key: bytes | None,
        counts: JobCounts | None = None,
        poll_s: float = 1.0,
        now_s: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._store = store
        self._outbound = outbound
        self._key = key
        self._counts = counts or Uncounted()
        self._poll_s = poll_s
        self._now_s = now_s
        self._jitter = jitter

    async def run(self) -> None:
        while True:
            try:
                if await self.send_due():
                    continue
            except JobsUnavailable:  # told where it failed
                await asyncio.sleep(UNAVAILABLE_PAUSE_S)
            except Exception:  # whatever it is, others are to be sent
                log.exception("a webhook was not sent")
            await asyncio.sleep(self._poll_s)

    async def send_due(self) -> int:
        """Send those that are due now; how many."""
        due = await self._store.call(
            lambda store: store.claim_deliveries(now_s=self._now_s(), lease_s=LEASE_S, limit=MAX_AT_ONCE)
        )
        async with asyncio.TaskGroup() as tasks:
            for delivery in due:
                tasks.create_task(self._deliver(delivery))
        return len(due)

    async def _deliver(self, delivery: Delivery) -> None:
        headers = webhook_headers(delivery.delivery_id, delivery.body, self._key, self._now_s())
        try:
            reply = await self._outbound.send(delivery.method, delivery.url, headers, delivery.body)
            settled = self._settled(delivery, reply)
        except AddressRefused as refused:
            settled = replace(delivery, state=DeliveryState.FAILED, error=str(refused))
        except NotReached as error:
            settled = self._again(delivery, str(error))
        log.info(
            "webhook",
            delivery_id=delivery.delivery_id,
            job_id=delivery.job_id,
            state=settled.state.value,
            attempt=delivery.attempts,
            error=settled.error,
        )
        is_pending = settled.state is DeliveryState.PENDING
        self._counts.webhook_tried("retried" if is_pending else settled.state)
        await self._store.call(lambda store: store.settle_delivery(settled))

    def _settled(self, delivery: Delivery, reply: Reply) -> Delivery:
        if 200 <= reply.status < 300:
            return replace(delivery, state=DeliveryState.DELIVERED, error="")
        if reply.status == _GONE:
            return replace(delivery, state=DeliveryState.FAILED, error="HTTP 410: it wants no more")
        after_s = int(reply.retry_after) if reply.retry_after.isdigit() else 0
        return self._again(delivery, f"HTTP {reply.status}", min(after_s, MAX_RETRY_AFTER_S))

    def _again(self, delivery: Delivery, error: str, at_least_s: float = 0) -> Delivery:
        if delivery.attempts > len(PAUSES_S):
            return replace(delivery, state=DeliveryState.FAILED, error=error)
        pause_s = PAUSES_S[delivery.attempts - 1] * self._jitter(1 - JITTER, 1 + JITTER)
        return replace(delivery, due_s=self._now_s() + max(pause_s, at_least_s), error=error)
