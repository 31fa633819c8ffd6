"""Live sessions whose key is revoked or expires: what was spoken is delivered, then the reason, then the
end."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from fakes.kept_keys import MemoryKeys, cheap_key
from serve_app.access.caller import Scope
from serve_app.access.keyring import Keyring
from serve_app.access.tokens import issue_token
from serve_app.web.app import Guards, create_app
from serve_app.web.live import shell

SECOND = bytes(32_000)
WHY = "the API key was revoked or has expired"
SIGNS = b"signs"

RAW = "encoding=linear16&sample_rate=16000"
START = {"type": "start_session", "session_id": "s1"}
UPDATE = {
    "type": "session.update",
    "session": {
        "type": "transcription",
        "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000}}},
    },
}
APPEND = {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(48_000)).decode()}
DOORS: dict[str, tuple[str, list[Any]]] = {
    "/ws/stt": ("", [START, SECOND]),
    "/ws/stream": ("sample_rate=16000", [SECOND]),
    "/ws": ("", [{"event": "start"}, SECOND]),
    "/asr": ("", [SECOND]),
    "/v1/listen": (RAW, [SECOND]),
    "/v1/realtime": ("intent=transcription", [UPDATE, APPEND, APPEND]),
}


class Served:
    """An application with one key, and its open connections."""

    def __init__(self) -> None:
        self.text, self.key = cheap_key(Scope.LIVE)
        self.store, self.now_s = MemoryKeys(self.key), 1_000.0
        self.ring = Keyring(self.store, now_s=lambda: self.now_s)
        self.service = FakeService()
        self.app = create_app(self.service, FakeSettings(), guards=Guards(keys=self.ring), signing_key=SIGNS)

    def socket(self, path: str, query: str = "", key: str | None = None) -> AsgiSocket:
        return AsgiSocket(self.app, path, [(b"x-api-key", (key or self.text).encode())], query)

    async def revoke(self) -> None:
        self.store.revoke(self.key.id, self.now_s)
        await self.ring.refresh()

    async def has_audio(self) -> None:
        async with asyncio.timeout(60):
            while not (self.service.sessions and self.service.sessions[0].num_samples >= 16_000):
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("path", DOORS)
async def test_a_revoked_key_ends_its_session_with_the_last_text_and_a_reason(path: str) -> None:
    served = Served()
    query, frames = DOORS[path]
    async with served.socket(path, query) as socket:
        for frame in frames:
            socket.say(frame)
        await served.has_audio()
        await served.revoke()
        messages = [json.dumps(message, ensure_ascii=False) for message in await socket.heard_until("close")]
    last_text = max(index for index, message in enumerate(messages) if "olá" in message.lower())
    (told,) = [index for index, message in enumerate(messages) if WHY in message]
    assert last_text < told
    assert json.loads(messages[-1]) == {"close": 1008}


async def test_the_native_protocol_tells_the_error_before_the_end() -> None:
    served = Served()
    async with served.socket("/ws/stt") as socket:
        await socket.start()
        socket.say(SECOND)
        await served.has_audio()
        await served.revoke()
        messages = await socket.heard_until("close")
    final, error, ended, close = messages[-4:]
    assert final["type"] == "final_transcript"
    assert error == {
        "type": "error",
        "session_id": "s1",
        "code": "INVALID_KEY",
        "message": WHY,
        "retryable": False,
    }
    assert (ended["type"], ended["reason"]) == ("session_ended", "error")
    assert close == {"close": 1008}


async def test_a_connection_without_a_session_is_told_too() -> None:
    served = Served()
    async with served.socket("/ws/stt") as socket:
        await served.revoke()
        error, close = await socket.heard_until("close")
    assert (error["code"], error["message"], close) == ("INVALID_KEY", WHY, {"close": 1008})


async def test_a_backlog_does_not_keep_a_lost_key_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still undecoded after a few seconds is dropped: its client may not use the service."""
    assert shell.KEY_LOST.drain_s < 5
    monkeypatch.setattr(shell, "KEY_LOST", replace(shell.KEY_LOST, drain_s=0.05))
    served = Served()
    served.service.on_open = lambda session: setattr(session, "end", lambda: None)
    async with served.socket("/ws/stt") as socket:
        await socket.start()
        socket.say(SECOND)
        await served.has_audio()
        await served.revoke()
        messages = await socket.heard_until("close")
    assert [message.get("type") for message in messages[-3:-1]] == ["error", "session_ended"]
    assert messages[-1] == {"close": 1008}


async def test_sessions_of_other_keys_go_on() -> None:
    served = Served()
    other, other_key = cheap_key(Scope.LIVE)
    served.store.add(other_key)
    await served.ring.refresh()
    async with served.socket("/ws/stt", key=other) as socket:
        await socket.start()
        socket.say(SECOND)
        await served.has_audio()
        await served.revoke()
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert (messages[-2]["reason"], messages[-1]) == ("completed", {"close": 1000})
    assert WHY not in str(messages)


async def test_an_expired_key_ends_its_session_but_an_expired_token_does_not() -> None:
    served = Served()
    owner, owner_key = cheap_key(Scope.LIVE, expires_s=2_000)
    served.store.add(owner_key)
    await served.ring.refresh()
    token = issue_token(SIGNS, owner_key.id, frozenset({Scope.LIVE}), 1, 1e10)
    async with served.socket("/ws/stt", key=token) as by_token:
        await by_token.start()
        served.now_s = 1_999.0
        await served.ring.refresh()
        by_token.say(SECOND)
        await served.has_audio()
        served.now_s = 2_000.0
        await served.ring.refresh()
        messages = await by_token.heard_until("close")
    assert [message.get("code") for message in messages[-3:]] == ["INVALID_KEY", None, None]
    assert owner


async def test_a_streaming_request_ends_with_the_error_and_its_last_line() -> None:
    served = Served()
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    outgoing: asyncio.Queue[Message] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": SECOND, "more_body": True})
    scope = http_scope(
        "/transcribe/stream",
        [(b"content-type", b"audio/pcm;rate=16000"), (b"authorization", f"Bearer {served.text}".encode())],
    )
    app: ASGIApp = served.app
    serving = asyncio.create_task(app(scope, incoming.get, lambda message: outgoing.put(message)))
    await served.has_audio()
    await served.revoke()
    await asyncio.wait_for(serving, 60)
    body = b"".join(outgoing.get_nowait().get("body", b"") for _ in range(outgoing.qsize()))
    lines = [json.loads(line) for line in body.splitlines()]
    assert [line["type"] for line in lines[-3:]] == ["final_transcript", "error", "session_ended"]
    assert lines[-2]["message"] == WHY


def http_scope(path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }
