"""A server that holds its answers back, so that a client can be interrupted in the middle of its wait."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fakes.app_server import running_app
from fakes.speech_server import final_message

ENDED = {
    "type": "session_ended",
    "session_id": "s",
    "reason": "completed",
    "total_audio_ms": 1.0,
    "total_segments": 1,
}


@dataclass
class HeldServer:
    """A final for each frame of audio and, unless it `ends`, no answer to more; the events say what came."""

    url: str = ""
    ends: bool = False
    uploaded: threading.Event = field(default_factory=threading.Event)
    asked_to_end: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    keys: list[str | None] = field(default_factory=list)

    async def live(self, socket: WebSocket) -> None:
        self.keys.append(socket.headers.get("authorization"))
        await socket.accept()
        await socket.receive_text()
        await socket.send_json({"type": "session_started", "session_id": "s"})
        num_frames = 0
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                if message.get("bytes"):
                    num_frames += 1
                    await socket.send_json(final_message("hello", 100.0 * num_frames, f"seg-{num_frames}"))
                elif json.loads(message["text"])["type"] == "end_session":
                    self.asked_to_end.set()
                    if self.ends:
                        await socket.send_json(ENDED)
        except WebSocketDisconnect:
            return

    async def transcribe(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization"))
        async with request.form():
            self.uploaded.set()
            while not self.released.is_set():
                await asyncio.sleep(0.01)
        return PlainTextResponse("hello\n")


@contextmanager
def running_held_server() -> Iterator[HeldServer]:
    """The server on a port of its own; what it holds is let go at the end of the block."""
    server = HeldServer()
    routes = [
        WebSocketRoute("/ws/stt", server.live),
        Route("/transcribe", server.transcribe, methods=["POST"]),
    ]
    with running_app(Starlette(routes=routes)) as port:
        server.url = f"http://127.0.0.1:{port}"
        try:
            yield server
        finally:
            server.released.set()
