"""An ASGI WebSocket client without a network: every frame and every wait is in the test's hands."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message

from fakes.asgi_scope import connection_scope


class AsgiSocket:
    """`async with AsgiSocket(app)`; after `stall()` the application's sends wait, as if nobody read."""

    def __init__(
        self,
        app: ASGIApp,
        path: str = "/ws/stt",
        headers: list[tuple[bytes, bytes]] | None = None,
        query: str = "",
    ):
        self._app = app
        self._scope = {
            **connection_scope(path, query),
            "type": "websocket",
            "scheme": "ws",
            "headers": headers or [],
            "subprotocols": [],
        }
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self._reads = asyncio.Event()
        self._reads.set()
        self.accepted: Message | None = None
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsgiSocket:
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(self._app(self._scope, self._incoming.get, self._send))
        self.accepted = await asyncio.wait_for(self._outgoing.get(), 60)
        assert self.accepted["type"] == "websocket.accept"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._reads.set()
        self.disconnect()
        await asyncio.wait_for(self.task, 60)

    async def _send(self, message: Message) -> None:
        await self._reads.wait()
        self._outgoing.put_nowait(message)

    def stall(self) -> None:
        self._reads.clear()

    def read_on(self) -> None:
        self._reads.set()

    def say(self, frame: dict[str, Any] | str | bytes) -> None:
        match frame:
            case bytes():
                message: Message = {"type": "websocket.receive", "bytes": frame}
            case str():
                message = {"type": "websocket.receive", "text": frame, "bytes": None}
            case _:
                message = {"type": "websocket.receive", "text": json.dumps(frame)}
        self._incoming.put_nowait(message)

    def disconnect(self, code: int = 1006) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": code})

    @property
    def num_untaken(self) -> int:
        """Frames that the application has not read yet."""
        return self._incoming.qsize()

    @property
    def num_unheard(self) -> int:
        """Messages sent that the test has not looked at."""
        return self._outgoing.qsize()

    async def heard(self, timeout_s: float = 60) -> dict[str, Any]:
        """The next message; a close is `{"close": code}`."""
        message = await asyncio.wait_for(self._outgoing.get(), timeout_s)
        if message["type"] == "websocket.close":
            return {"close": message["code"]}
        return json.loads(message["text"])

    async def heard_until(self, kind: str) -> list[dict[str, Any]]:
        """Messages up to and with the first whose type is `kind` ("close": the close)."""
        messages = []
        while True:
            messages.append(await self.heard())
            if kind in messages[-1] or messages[-1].get("type") == kind:
                return messages

    async def start(self, **config: Any) -> dict[str, Any]:
        self.say({"type": "start_session", "session_id": "s1", "config": config})
        return await self.heard()


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    """What each message is: its type, "close", or "update" where it has no type."""
    return [message.get("type", "close" if "close" in message else "update") for message in messages]
