"""A server that speaks the wire shapes of the native, upload and NDJSON doors without any speech engine.

It runs uvicorn in a thread on a free port, because what is under test is a client on a real socket.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

BYTES_PER_MS = 32


class _Duplex(StreamingResponse):
    """Streams without also listening for a disconnect, which would eat the request body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.stream_response(send)


def final_message(text: str, end_ms: float, segment: str = "seg-1") -> dict[str, Any]:
    return {
        "type": "final_transcript",
        "session_id": "s",
        "segment_id": segment,
        "text": text,
        "confidence": 0.9,
        "is_final": True,
        "words": [{"word": "hello", "start": 0.1, "end": 0.4, "probability": 0.8}],
        "audio_duration_ms": end_ms,
        "language": "en",
        "start_ms": 0.0,
        "end_ms": end_ms,
        "endpoint_ms": end_ms + 500,
        "timing": {"server_total_ms": 12.5},
    }


def partial_message(text: str, end_ms: float) -> dict[str, Any]:
    return {
        "type": "partial_transcript",
        "session_id": "s",
        "segment_id": "seg-1",
        "text": text,
        "confidence": 0.5,
        "is_final": False,
        "stable_chars": 3,
        "language": "en",
        "start_ms": 0.0,
        "end_ms": end_ms,
        "timing": {},
    }


async def live(socket: WebSocket) -> None:
    """A partial per frame, a final on flush; `{"drop": true}` in config closes without a word."""
    await socket.accept()
    start = json.loads(await socket.receive_text())
    if start.get("session_id") == "taken":
        await socket.send_json(
            {"type": "error", "code": "SESSION_EXISTS", "message": "in use", "session_id": "taken"}
        )
        await socket.close(1008)
        return
    await socket.send_json({"type": "session_started", "session_id": start.get("session_id") or "made-up"})
    num_bytes, num_finals = 0, 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if (data := message.get("bytes")) is not None:
            num_bytes += len(data)
            if start["config"].get("prompt") == "drop":
                await socket.close(1012)
                return
            await socket.send_json(partial_message("hel", num_bytes / BYTES_PER_MS))
            continue
        command = json.loads(message["text"])["type"]
        if command in ("flush", "end_session"):
            num_finals += 1
            await socket.send_json(final_message("hello", num_bytes / BYTES_PER_MS, f"seg-{num_finals}"))
        if command in ("end_session", "cancel"):
            await socket.send_json(
                {
                    "type": "session_ended",
                    "session_id": "s",
                    "reason": "completed" if command == "end_session" else "cancelled",
                    "total_audio_ms": num_bytes / BYTES_PER_MS,
                    "total_segments": num_finals,
                }
            )
            await socket.close()
            return


async def transcribe(request: Request) -> Response:
    async with request.form() as form:
        data = await form["file"].read()  # type: ignore[union-attr]
    if not data:
        return JSONResponse({"detail": "no audio in it"}, status_code=400)
    if data == b"busy":
        return JSONResponse({"detail": "full"}, status_code=503, headers={"Retry-After": "2"})
    diarize = request.query_params.get("diarize") == "true"
    if request.query_params["response_format"] == "text":
        return PlainTextResponse("SPEAKER_01: hello\n" if diarize else "hello\n")
    if request.query_params["response_format"] == "srt":
        return PlainTextResponse("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    return JSONResponse(
        {
            "transcript": "hello",
            "confidence": 0.99,
            "language": request.query_params.get("language", "en"),
            "language_probability": 0.99,
            "duration": 1.5,
            "segments": [
                {"id": 1, "start": 0.0, "end": 1.5, "text": "hello", "confidence": -0.2}
                | ({"speaker": "SPEAKER_01"} if diarize else {})
            ],
            **({"speakers": ["SPEAKER_01"], "num_speakers": 1} if diarize else {}),
            "processing_time": {"preprocess_ms": 1.0, "transcribe_ms": 10.0, "total_ms": 12.0},
            "real_time_factor": 0.01,
            "model": "fake",
            "timestamp": "2026-02-02T12:30:45+00:00",
            "cached": False,
            "num_bytes": len(data),
            **({"warning": "the last second is missing"} if data == b"damaged" else {}),
            "query": dict(request.query_params),
        }
    )


async def transcribe_stream(request: Request) -> Response:
    """One partial per received part of the body, so that a client that does not read while it sends
    shows; a client that sends nothing gets a heartbeat."""
    if request.headers["content-type"] == "text/plain":
        return JSONResponse({"detail": "no audio type"}, status_code=415)

    async def answer() -> AsyncIterator[bytes]:
        num_bytes = 0
        yield _line({"type": "session_started", "session_id": "s"})
        async for part in request.stream():
            num_bytes += len(part)
            if part:
                yield _line(partial_message("hel", num_bytes / BYTES_PER_MS))
        if request.query_params.get("prompt") == "cut":
            return
        yield _line(final_message("hello", num_bytes / BYTES_PER_MS))
        yield _line({"type": "heartbeat", "t_ms": num_bytes / BYTES_PER_MS})
        yield _line({"type": "something_new", "value": 1})
        ended = {"reason": "completed", "total_audio_ms": num_bytes / BYTES_PER_MS, "total_segments": 1}
        yield _line({"type": "session_ended", "session_id": "s", **ended})

    return _Duplex(answer(), media_type="application/x-ndjson")


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode() + b"\n"


@contextlib.contextmanager
def running_fake_server() -> Iterator[str]:
    """Yield the address of a fake server that runs until the end of the block."""
    app = Starlette(
        routes=[
            WebSocketRoute("/ws/stt", live),
            Route("/transcribe", transcribe, methods=["POST"]),
            Route("/transcribe/stream", transcribe_stream, methods=["POST"]),
        ]
    )
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="websockets-sansio")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=60)
