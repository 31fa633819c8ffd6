"""Where a key's holder gets tokens for browsers: what they open, for how long, and whose they are."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from fakes.fake_service import FakeService, FakeSettings
from fakes.kept_keys import MemoryKeys, cheap_key
from serve_app.access.caller import Scope
from serve_app.access.keyring import Keyring
from serve_app.access.tokens import verify_token
from serve_app.web.app import Guards, create_app

SIGNS = b"signs"
KEYS = {scope: cheap_key(scope) for scope in Scope}


@pytest.fixture
def store() -> MemoryKeys:
    return MemoryKeys(*(key for _, key in KEYS.values()))


@pytest.fixture
def ring(store: MemoryKeys) -> Keyring:
    return Keyring(store)


@pytest.fixture
async def http(ring: Keyring) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(FakeService(), FakeSettings(), guards=Guards(keys=ring), signing_key=SIGNS)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        yield client


def by(scope: Scope) -> dict[str, str]:
    return {"authorization": f"Token {KEYS[scope][0]}"}


async def test_deepgrams_grant_answers_as_deepgram_does(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/auth/grant", headers=by(Scope.LIVE))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.keys() == {"access_token", "expires_in"}
    assert body["expires_in"] == 30
    token = verify_token(SIGNS, body["access_token"], time.time())
    assert token is not None
    assert (token.sub, token.scopes) == (KEYS[Scope.LIVE][1].id, {Scope.LIVE})
    assert 28 < token.exp - time.time() <= 30


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        (Scope.ADMIN, {Scope.LIVE, Scope.RECORDINGS}),
        (Scope.LIVE, {Scope.LIVE}),
        (Scope.RECORDINGS, {Scope.RECORDINGS}),
    ],
)
async def test_a_grant_has_what_its_key_has_of_live_and_recordings(
    http: httpx.AsyncClient, scope: Scope, scopes: set[Scope]
) -> None:
    answer = await http.post("/v1/auth/grant", headers=by(scope), json={"ttl_seconds": 300.0})
    token = verify_token(SIGNS, answer.json()["access_token"], time.time() + 290)
    assert token is not None
    assert token.scopes == scopes
    assert answer.json()["expires_in"] == 300


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"ttl_seconds": 0}', b'{"ttl_seconds": 3601}', b"\xff"])
async def test_a_grant_that_cannot_be_made_is_deepgrams_error(http: httpx.AsyncClient, body: bytes) -> None:
    answer = await http.post("/v1/auth/grant", headers=by(Scope.LIVE), content=body)
    assert answer.status_code == 400
    assert answer.json().keys() == {"err_code", "err_msg", "request_id"}


async def test_a_key_for_metrics_alone_grants_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/auth/grant", headers=by(Scope.METRICS))
    assert (answer.status_code, answer.json()["err_code"]) == (403, "INSUFFICIENT_PERMISSIONS")


async def test_the_native_token_says_when_it_expires(http: httpx.AsyncClient) -> None:
    answer = await http.post("/auth/token", headers=by(Scope.LIVE))
    body = answer.json()
    assert body["scopes"] == ["live"]
    assert 58 < body["expires_at"] - time.time() <= 60
    asked = {"scopes": ["recordings", "metrics"], "lifetime_s": 5}
    body = (await http.post("/auth/token", headers=by(Scope.ADMIN), json=asked)).json()
    assert body["scopes"] == ["metrics", "recordings"]
    bearer = {"authorization": f"Bearer {body['token']}"}
    assert (await http.get("/v1/models", headers=bearer)).status_code == 200
    assert (await http.post("/auth/token", headers=bearer)).status_code == 403


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"scopes": ["recordings"]}, 403),
        ({"scopes": ["live", "recordings"]}, 403),
        ({"scopes": ["admin"]}, 400),
        ({"scopes": []}, 400),
        ({"lifetime_s": 0}, 400),
        ({"lifetime_s": 3601}, 400),
        ({"lifetime": 60}, 400),
    ],
)
async def test_a_token_has_no_more_than_its_key(
    http: httpx.AsyncClient, asked: dict[str, Any], status: int
) -> None:
    answer = await http.post("/auth/token", headers=by(Scope.LIVE), json=asked)
    assert answer.status_code == status
    assert answer.json().keys() == {"detail"}


@pytest.mark.parametrize("path", ["/auth/token", "/v1/auth/grant"])
async def test_a_body_without_end_is_not_read(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.post(path, headers=by(Scope.LIVE), content=b" " * 5_000)
    assert answer.status_code == 413


async def test_tokens_and_secrets_are_lost_with_the_key_that_made_them(
    http: httpx.AsyncClient, store: MemoryKeys, ring: Keyring
) -> None:
    made = await http.post("/auth/token", headers=by(Scope.LIVE))
    bearer = {"authorization": f"Bearer {made.json()['token']}"}
    assert (await http.get("/v1/models", headers=bearer)).status_code == 200
    store.revoke(KEYS[Scope.LIVE][1].id, 1)
    await ring.refresh()
    assert (await http.get("/v1/models", headers=bearer)).status_code == 401


async def test_no_key_token_or_digest_is_logged(
    http: httpx.AsyncClient, store: MemoryKeys, ring: Keyring
) -> None:
    text, key = KEYS[Scope.LIVE]
    with capture_logs() as logs:
        token = (await http.post("/v1/auth/grant", headers=by(Scope.LIVE))).json()["access_token"]
        for offered in (text, token, text + "x", token + "x"):
            await http.post("/transcribe", headers={"x-api-key": offered})
        store.revoke(key.id, 1)
        await ring.refresh()
        await http.post("/transcribe", headers={"x-api-key": text})
    assert len(logs) >= 5
    for secret in (text, token, text.rpartition("_")[2], token.rpartition(".")[2], repr(key.digest)):
        assert secret not in str(logs)
    assert key.id in str(logs)


async def test_a_service_without_keys_hands_out_tokens_that_open_what_is_open() -> None:
    transport = httpx.ASGITransport(create_app(FakeService(), FakeSettings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as http:
        token = (await http.post("/v1/auth/grant")).json()["access_token"]
        bearer = {"authorization": f"Bearer {token}"}
        assert (await http.get("/v1/models", headers=bearer)).status_code == 200
