"""The caller of a connection, put into its ASGI scope by what checked the key, and read by every door."""

from __future__ import annotations

from starlette.types import Scope

from serve_app.access.caller import ANYBODY, Caller

_ENTRY = "sotto.caller"
_ADDRESS = "sotto.address"


def caller_of(scope: Scope) -> Caller:
    """Of a request (`request.scope`) or a WebSocket; one without a key where keys are not asked for."""
    caller = scope.get(_ENTRY)
    if caller is None:
        caller = scope[_ENTRY] = with_address(ANYBODY, scope)
    assert isinstance(caller, Caller)
    return caller


def set_caller(scope: Scope, caller: Caller) -> None:
    """`caller`, at the address that was found for the connection."""
    scope[_ENTRY] = with_address(caller, scope)


def set_address(scope: Scope, address: str) -> None:
    """The client's address, as it is counted; before the key is checked."""
    scope[_ADDRESS] = address


def with_address(caller: Caller, scope: Scope) -> Caller:
    address = scope.get(_ADDRESS, "")
    if not address:
        return caller
    return Caller(caller.key_id, caller.name, address, caller.scopes, caller.limits)  # `replace` takes 4 us
