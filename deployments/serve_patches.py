"""Two replacements for parts of Ray 2.60's Serve, made in the replica before it serves.

Back-pressure from a door to its socket: a replica that takes its connections itself reads every message of a
connection into an unbounded queue, whether the application asks for it or not (`ASGIDIReceiveProxy`). A
client that sends faster than its audio can be used would fill the memory, and never be slowed down.
`BoundedReceive` fetches the next message only while few are waiting: then uvicorn stops reading the socket.

`X-Request-ID` once in every answer: the server of a replica adds the header to all answers by a middleware of
its own (`RequestIdMiddleware`), whether the application has set it or not, echoes what the client sent
unchecked, and leaves WebSockets without one. `RequestIds` does the same right and takes its place.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from ray.serve._private import http_util
from ray.serve._private import replica as serve_replica
from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from starlette.types import Message, Receive, Scope

from serve_app.web.request_ids import RequestIds

log = structlog.get_logger(__name__)

MAX_WAITING_MESSAGES = 8


class BoundedReceive(ASGIDIReceiveProxy):  # type: ignore[misc]
    """Serve's receive proxy with at most `MAX_WAITING_MESSAGES` messages fetched ahead. Of a WebSocket none:
    its door reads until the client has left, and each frame would wake one more task."""

    def __init__(self, scope: Scope, receive: Receive, user_event_loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(scope, self._fetch_when_wanted, user_event_loop)
        self._fetch = receive
        self._taken = asyncio.Event()
        self._left = asyncio.Event()

    async def _fetch_when_wanted(self) -> Message:
        while self.queue.qsize() >= MAX_WAITING_MESSAGES:
            self._taken.clear()
            await self._taken.wait()
        return await self._fetch()

    async def _fetch_until_disconnect(self) -> Any:
        if self._type != "websocket":
            return await super()._fetch_until_disconnect()
        await self._left.wait()
        return self._disconnect_message["code"]

    async def __call__(self) -> Message:
        message: Message
        if self._type != "websocket":
            message = await super().__call__()
            self._taken.set()
        elif self._disconnect_message is not None:
            message = self._disconnect_message
        else:
            message = await self._fetch()
            if message["type"] == "websocket.disconnect":
                self._disconnect_message = message
                self._left.set()
        return message


def bound_receive_queues() -> None:
    """Use `BoundedReceive` for every connection of this replica from now on.

    Only where user code runs on the replica's own loop (throughput-optimised Serve): across loops the
    queue may not be waited for.
    """
    from ray.serve._private.constants import RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD

    if RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD:
        log.warning("sockets have no back-pressure: set RAY_SERVE_THROUGHPUT_OPTIMIZED=1")
        return
    serve_replica.ASGIDIReceiveProxy = BoundedReceive


def name_requests_once() -> None:
    """Use `RequestIds` in every server of this process that has not been started yet."""
    http_util.RequestIdMiddleware = RequestIds
