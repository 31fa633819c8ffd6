"""What is offered as a key in any bytes and any place: refused or taken, never a fault; secrets of
sockets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from fakes.kept_keys import MemoryKeys, cheap_key
from serve_app.access.caller import Scope
from serve_app.access.keyring import Keyring
from serve_app.web.app import Guards, create_app
from serve_app.web.door_table import doors_of
from serve_app.web.keys import MAX_OFFERED, Callers, DoorFinder

TEXT, KEY = cheap_key(Scope.LIVE)
PATHS = sorted({door.path for door in doors_of()} | {"/", "/nope", "/v1/models/a/b"})


async def answered(scope: dict[str, Any]) -> int:
    """The status of a refusal, the close code of a socket's, 0 where the door was reached."""
    said: list[Message] = []

    async def door(scope: Any, receive: Any, send: Any) -> None:
        said.append({"type": "reached"})

    async def send(message: Message) -> None:
        said.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    ring = Keyring(MemoryKeys(KEY), plain="plain")
    checked = Callers(door, ring, doors_of(), signing_key=b"signs", in_address=True, metrics_need_key=True)
    await checked(scope, receive, send)
    first = said[0]
    return int(first.get("status", first.get("code", 0)))


anything = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=40).map(str.encode),
    st.sampled_from(
        [TEXT, TEXT + "x", "plain", "ek_a.b", "a.b.c", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.e30"]
    ).map(str.encode),
)


@given(
    st.sampled_from(["http", "websocket"]),
    st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "BREW"]),
    st.sampled_from(PATHS),
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"x-api-key", b"cookie"]),
            st.tuples(st.sampled_from([b"", b"Bearer ", b"token ", b"Basic "]), anything).map(b"".join),
        ),
        max_size=4,
    ),
    st.lists(anything.map(lambda data: data.decode("latin-1")), max_size=5),
    st.binary(max_size=80) | st.just(b"token=" + TEXT.encode()),
)
async def test_any_offer_is_refused_or_taken(
    kind: str, method: str, path: str, headers: Any, subprotocols: list[str], query: bytes
) -> None:
    scope: dict[str, Any] = {
        "type": kind,
        "path": path,
        "headers": headers,
        "query_string": query.decode("latin-1").encode("latin-1"),
        "client": None,
    }
    scope |= {"method": method} if kind == "http" else {"subprotocols": subprotocols}
    assert await answered(scope) in (0, 401, 403, 1008)


async def test_so_many_keys_of_one_request_are_looked_at() -> None:
    wrong = [f"sotto_{KEY.id}_{number:064x}" for number in range(MAX_OFFERED)]
    offered = [name for text in [*wrong, TEXT] for name in ("token", text)]
    scope = {
        "type": "websocket",
        "path": "/ws/stt",
        "headers": [],
        "subprotocols": offered,
        "query_string": b"",
    }
    assert await answered(scope) == 1008
    scope["subprotocols"] = offered[-2:]
    assert await answered(scope) == 0


def test_a_door_is_found_by_its_method_and_path() -> None:
    finder = DoorFinder(doors_of())
    for door in doors_of():
        method = getattr(door, "method", "websocket")
        assert finder.find(method.upper() if method != "websocket" else method, door.path) is door
    assert str(finder.find("HEAD", "/v1/models/openai/whisper")) == "GET /v1/models/{name}"
    assert finder.find("GET", "/transcribe") is None
    assert finder.find("POST", "/ws/stt") is None


async def opens(port: int, path: str, *subprotocols: str) -> bool:
    try:
        async with connect(
            f"ws://127.0.0.1:{port}{path}",
            proxy=None,
            subprotocols=[Subprotocol(one) for one in subprotocols],
        ) as socket:
            assert socket.subprotocol == subprotocols[0]
            return True
    except InvalidStatus as refused:
        return refused.response.status_code != 401


@pytest.mark.parametrize("path", ["/ws/stt", "/v1/listen"])
async def test_browsers_offer_tokens_as_subprotocols(path: str) -> None:
    store = MemoryKeys(KEY)
    ring = Keyring(store)
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=ring))
    with running_app(app) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            made = await http.post("/v1/auth/grant", headers={"x-api-key": TEXT})
        token = made.json()["access_token"]
        assert await opens(port, path, "bearer", token)
        assert await opens(port, path, "token", token)
        assert not await opens(port, path, "token", token[:-2])


async def test_a_client_secret_is_its_callers_and_lost_with_the_key() -> None:
    store = MemoryKeys(KEY)
    ring, service = Keyring(store), FakeService()
    app = create_app(service, FakeSettings(), guards=Guards(keys=ring))
    with running_app(app) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            made = await http.post("/v1/realtime/client_secrets", headers={"x-api-key": TEXT}, json={})
        offered = ("realtime", f"openai-insecure-api-key.{made.json()['value']}")
        assert await opens(port, "/v1/realtime?intent=transcription", *offered)
        assert not await opens(port, "/ws/stt", *offered)
        store.revoke(KEY.id, 1)
        await ring.refresh()
        assert not await opens(port, "/v1/realtime?intent=transcription", *offered)
