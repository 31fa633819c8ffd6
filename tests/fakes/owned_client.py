"""Clients of one application in this process, each with a key of its own, which may do all."""

from __future__ import annotations

from typing import Any

import httpx
from starlette.applications import Starlette

from fakes.kept_keys import MemoryKeys, cheap_key
from serve_app.access.caller import Scope
from serve_app.access.keyring import Keyring

KEYS = {name: cheap_key(*Scope) for name in ("a", "b")}


def keyring_for(owner: str) -> Keyring | None:
    """None for a caller without a key, where none is asked for."""
    return Keyring(MemoryKeys(*(key for _, key in KEYS.values()))) if owner else None


def client_with_key(app: Starlette, owner: str) -> httpx.AsyncClient:
    headers = {"x-api-key": KEYS[owner][0]} if owner else {}
    transport: Any = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://sotto", headers=headers)
