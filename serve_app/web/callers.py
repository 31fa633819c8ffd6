"""The caller of a connection, put into its ASGI scope by what checked the key, and read by every door."""

from __future__ import annotations

from starlette.types import Scope

from serve_app.access.caller import ANYBODY, Caller

_ENTRY = "sotto.caller"


def caller_of(scope: Scope) -> Caller:
    """Of a request (`request.scope`) or a WebSocket; `ANYBODY` where keys are not asked for."""
    caller = scope.get(_ENTRY, ANYBODY)
    assert isinstance(caller, Caller)
    return caller


def set_caller(scope: Scope, caller: Caller) -> None:
    scope[_ENTRY] = caller
