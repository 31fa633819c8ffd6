"""Every door of both documents: without a key, with a wrong one, one of another scope, the right one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fakes.app_server import running_app
from fakes.door_errors import shape_of
from fakes.fake_service import FakeService, FakeSettings
from fakes.kept_keys import MemoryKeys, cheap_key
from serve_app.access.caller import Scope
from serve_app.access.keyring import Keyring
from serve_app.access.tokens import issue_token
from serve_app.protocols.doors import Channel, Operation
from serve_app.web.app import Guards, create_app
from serve_app.web.door_table import doors_of

SIGNS = b"signs"
KEYS = {scope: cheap_key(scope) for scope in Scope}
EXPIRED, EXPIRED_KEY = cheap_key(expires_s=1)
REVOKED, REVOKED_KEY = cheap_key()
OPERATIONS = [one for one in doors_of() if isinstance(one, Operation)]
CHANNELS = [one for one in doors_of() if isinstance(one, Channel)]

SCOPES = {
    "POST /transcribe": Scope.RECORDINGS,
    "POST /transcribe/stream": Scope.LIVE,
    "POST /auth/token": None,
    "POST /v1/audio/transcriptions": Scope.RECORDINGS,
    "POST /v1/audio/translations": Scope.RECORDINGS,
    "GET /v1/models": None,
    "GET /v1/models/{name}": None,
    "POST /v1/realtime/client_secrets": Scope.LIVE,
    "POST /v1/realtime/transcription_sessions": Scope.LIVE,
    "POST /v1/listen": Scope.RECORDINGS,
    "POST /v1/auth/grant": None,
    "GET /metrics": Scope.METRICS,
}


def test_each_door_says_its_scope() -> None:
    described = {str(one): one.scope for one in OPERATIONS}
    assert SCOPES.items() <= described.items()
    assert {one.scope for one in CHANNELS} == {Scope.LIVE}
    rest = [one for one in OPERATIONS if str(one) not in SCOPES and one.needs_key]
    assert all(one.scope is not None for one in rest), "a door with any key is listed above"


def served() -> Iterator[tuple[int, FakeService]]:
    service = FakeService()
    store = MemoryKeys(*(key for _, key in KEYS.values()), EXPIRED_KEY, REVOKED_KEY)
    store.revoke(REVOKED_KEY.id, 1)
    app = create_app(
        service,
        FakeSettings(),
        guards=Guards(keys=Keyring(store), keys_in_address=True, metrics_need_key=True),
        signing_key=SIGNS,
    )
    with running_app(app) as port:
        yield port, service


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[int, FakeService]]:
    yield from served()


@pytest.fixture(scope="module")
def strict_port(server: tuple[int, FakeService]) -> int:
    """Where `/metrics` needs a key too, and addresses may hold one."""
    return server[0]


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def path_of(door: Operation) -> str:
    return door.path.replace("{name:path}", "base").replace("{", "").replace("}", "")


def closed(door: Operation) -> bool:
    return door.needs_key or door.scope is Scope.METRICS


async def ask(port: int, door: Operation, headers: Mapping[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=None) as http:
        return await http.request(door.method.upper(), path_of(door), headers=headers, content=b"audio")


@pytest.mark.parametrize("door", OPERATIONS, ids=str)
async def test_every_http_door_takes_the_keys_of_its_scope_and_no_others(
    server: tuple[int, FakeService], door: Operation
) -> None:
    port, service = server
    before = len(service.uploads), len(service.sessions)
    unknown = f"sotto_{'0' * 12}_{'0' * 64}"
    wrong = [KEYS[Scope.ADMIN][0][:-1] + "x", unknown, EXPIRED, REVOKED, "Ünknown"]
    for headers in ({}, *({"x-api-key": text.encode()} for text in wrong)):
        answer = await ask(port, door, headers)
        assert (answer.status_code == 401) is closed(door), headers
    others = [scope for scope in Scope if door.scope not in (None, scope) and scope is not Scope.ADMIN]
    for scope in others if closed(door) else ():
        answer = await ask(port, door, bearer(KEYS[scope][0]))
        assert answer.status_code == 403
        assert "www-authenticate" not in answer.headers
        assert door.scope is not None
        assert door.scope in answer.text
    assert (len(service.uploads), len(service.sessions)) == before
    for scope in set(Scope) - set(others):
        answer = await ask(port, door, bearer(KEYS[scope][0]))
        assert answer.status_code not in (401, 403)


@pytest.mark.parametrize("door", OPERATIONS, ids=str)
async def test_tokens_open_what_their_scopes_say_and_make_no_tokens(
    strict_port: int, door: Operation
) -> None:
    text, key = KEYS[Scope.ADMIN]
    for scope in (Scope.LIVE, Scope.RECORDINGS, Scope.METRICS):
        token = issue_token(SIGNS, key.id, frozenset({scope}), 600, 1e10)
        answer = await ask(strict_port, door, bearer(token))
        opens = not closed(door) or (door.scope in (None, scope) and door.takes_tokens)
        assert (answer.status_code == 403) is not opens
        assert answer.status_code != 401
    for owner, scopes in (
        ("", Scope),
        (key.id + "0", Scope),
        (REVOKED_KEY.id, Scope),
        (EXPIRED_KEY.id, Scope),
    ):
        token = issue_token(SIGNS, owner, frozenset(scopes), 600, 1e10)
        assert ((await ask(strict_port, door, bearer(token))).status_code == 401) is closed(door)


async def refusal(port: int, path: str, **options: Any) -> Any:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options):
            pass
    return refused.value.response


@pytest.mark.parametrize("door", CHANNELS, ids=str)
async def test_every_socket_takes_the_keys_of_its_scope_and_no_others(
    strict_port: int, door: Channel
) -> None:
    live, (_, admin) = KEYS[Scope.LIVE][0], KEYS[Scope.ADMIN]
    for headers in ({}, bearer(live + "x"), bearer(EXPIRED), bearer(REVOKED)):
        assert (await refusal(strict_port, door.path, additional_headers=headers)).status_code == 401
    token = issue_token(SIGNS, admin.id, frozenset({Scope.RECORDINGS}), 600, 1e10)
    for text in (KEYS[Scope.RECORDINGS][0], KEYS[Scope.METRICS][0], token):
        refused = await refusal(strict_port, door.path, additional_headers=bearer(text))
        assert refused.status_code == 403
        assert b"live" in refused.body
        assert shape_of(door.path) in json.loads(refused.body)
    token = issue_token(SIGNS, admin.id, frozenset({Scope.LIVE}), 600, 1e10)
    for text in (live, KEYS[Scope.ADMIN][0], token):
        url = f"ws://127.0.0.1:{strict_port}{door.path}"
        async with connect(url, proxy=None, additional_headers=bearer(text)) as socket:
            assert socket.response is not None
            assert socket.response.status_code == 101


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/transcribe", {"detail": "POST /transcribe needs a key with the scope recordings"}),
        (
            "/v1/audio/transcriptions",
            {
                "error": {
                    "message": "POST /v1/audio/transcriptions needs a key with the scope recordings",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "missing_scope",
                }
            },
        ),
    ],
)
async def test_another_scope_is_told_in_the_doors_shape(strict_port: int, path: str, expected: Any) -> None:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{strict_port}", trust_env=False, timeout=None
    ) as http:
        answer = await http.post(path, headers=bearer(KEYS[Scope.LIVE][0]))
        assert (answer.status_code, answer.json()) == (403, expected)
        deepgram = (await http.post("/v1/listen", headers=bearer(KEYS[Scope.LIVE][0]))).json()
    assert deepgram["err_code"] == "INSUFFICIENT_PERMISSIONS"


@pytest.mark.parametrize("name", ["token", "api_key"])
async def test_an_address_holds_a_key_only_of_a_socket_and_only_where_that_is_wanted(
    server: tuple[int, FakeService], name: str
) -> None:
    port, service = server
    live = KEYS[Scope.LIVE][0]
    url = f"ws://127.0.0.1:{port}/ws/stream?sample_rate=16000&{name}={live}&lang_code=de"
    async with connect(url, proxy=None) as socket:
        await socket.send(bytes(3200))
        await socket.recv()
    assert service.sessions[-1].options.language == "de"
    assert service.callers[-1].key_id == KEYS[Scope.LIVE][1].id
    assert (await refusal(port, f"/ws/stt?{name}={live}x")).status_code == 401
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=None) as http:
        assert (await http.get(f"/v1/models?{name}={live}")).status_code == 401
    app = create_app(
        FakeService(), FakeSettings(), guards=Guards(keys=Keyring(MemoryKeys(KEYS[Scope.LIVE][1])))
    )
    with running_app(app) as other:
        assert (await refusal(other, f"/ws/stt?{name}={live}")).status_code == 401


async def test_metrics_are_open_unless_they_need_a_key() -> None:
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(MemoryKeys())))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as http:
        assert (await http.get("/metrics")).status_code == 200
        assert (await http.head("/metrics")).status_code != 401


async def test_a_door_is_given_its_caller() -> None:
    text, key = cheap_key(Scope.LIVE)
    service = FakeService()
    app = create_app(service, FakeSettings(), guards=Guards(keys=Keyring(MemoryKeys(key))))
    with running_app(app) as port:
        url = f"ws://127.0.0.1:{port}/ws/stt"
        async with connect(url, proxy=None, additional_headers=bearer(text)) as socket:
            await socket.send('{"type": "start_session", "session_id": "a"}')
            await socket.recv()
    (caller,) = service.callers
    assert (caller.key_id, caller.name, caller.address) == (key.id, "shop", "127.0.0.1")
    assert caller.scopes == {Scope.LIVE}


async def test_keys_are_checked_beside_the_event_loop(strict_port: int) -> None:
    """Many requests with a key at once, seen for the first time by each of two applications."""
    text, key = cheap_key()
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=Keyring(MemoryKeys(key))))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as http:
        answers = await asyncio.gather(*(http.get("/v1/models", headers=bearer(text)) for _ in range(12)))
    assert {answer.status_code for answer in answers} == {200}
