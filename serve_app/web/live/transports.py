"""What carries a live connection: a WebSocket, or one HTTP request that is answered while its body comes."""

from __future__ import annotations

from typing import Protocol

from starlette.types import Message, Receive, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from serve_app.protocols.dialect import Frame
from serve_app.web.duplex import STREAM_HEADERS
from serve_app.web.request_records import current_record


class ClientGone(Exception):
    """The client is no longer there."""


class Transport(Protocol):
    """One connection. Every method raises `ClientGone` once the client is gone, and nothing else for it."""

    cuts_frames_anywhere: bool
    """Bytes come in pieces that mean nothing, of any size; else a piece is one frame of the client's."""

    user_agent: str

    async def accept(self) -> None:
        """Begin; what is wrong with the request can no longer be its status."""

    async def receive(self) -> Frame | None:
        """What the client sends next; None, once, where it has ended its side and only listens."""

    async def send(self, frame: Frame) -> None: ...

    async def close(self, code: int, reason: str) -> None: ...


class WebSocketTransport:
    """A frame is a message; `subprotocol` is answered to the handshake."""

    cuts_frames_anywhere = False

    def __init__(self, websocket: WebSocket, subprotocol: str | None = None) -> None:
        self._websocket = websocket
        self._subprotocol = subprotocol
        self.user_agent = websocket.headers.get("user-agent", "")

    async def accept(self) -> None:
        await self._websocket.accept(self._subprotocol)

    async def receive(self) -> Frame:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            current_record().client_left(message.get("code"))
            raise ClientGone
        data: bytes | None = message.get("bytes")
        text: str = message["text"] if data is None else ""
        return text if data is None else data

    async def send(self, frame: Frame) -> None:
        try:
            if isinstance(frame, str):
                await self._websocket.send_text(frame)
            else:
                await self._websocket.send_bytes(frame)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            raise ClientGone from error

    async def close(self, code: int, reason: str) -> None:
        try:
            await self._websocket.close(code, reason or None)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            raise ClientGone from error


class DuplexTransport:
    """One HTTP exchange: the body's bytes come in, each frame of ours is a line of the answer.

    HTTP has no close code: the answer ends. `receive` reads the body itself; nothing else may.
    """

    cuts_frames_anywhere = True
    user_agent = ""
    """No HTTP client stops reading while messages wait, as WebSocket libraries do (`send_limit`)."""

    def __init__(self, receive: Receive, send: Send, media_type: str) -> None:
        self._receive = receive
        self._send = send
        self._media_type = media_type
        self._body_ended = self._told_end = False

    async def accept(self) -> None:
        headers = {"content-type": self._media_type, **STREAM_HEADERS}
        await self._send_message(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )

    async def receive(self) -> Frame | None:
        while not self._body_ended:
            message = await self._receive_message()
            self._body_ended = not message.get("more_body", False)
            body: bytes = message.get("body", b"")
            if body:
                return body
        if not self._told_end:
            self._told_end = True
            return None
        while True:
            await self._receive_message()  # until it is the disconnect

    async def send(self, frame: Frame) -> None:
        line = frame.encode() if isinstance(frame, str) else frame
        await self._send_message({"type": "http.response.body", "body": line + b"\n", "more_body": True})

    async def close(self, code: int, reason: str) -> None:
        await self._send_message({"type": "http.response.body", "body": b"", "more_body": False})

    async def _receive_message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            current_record().client_left(None)
            raise ClientGone
        return message

    async def _send_message(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError as error:
            raise ClientGone from error
