"""`POST /v1/auth/grant`, Deepgram's: a token for a browser, 30 seconds good unless the body says
otherwise."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from serve_app.access.caller import Caller, Scope
from serve_app.access.tokens import MAX_LIFETIME_S, MIN_LIFETIME_S
from serve_app.core.errors import InvalidMessage, WrongScope
from sotto_client.wire import Written

DEFAULT_LIFETIME_S = 30
_SCOPES = frozenset({Scope.LIVE, Scope.RECORDINGS})


class GrantRequest(Struct, frozen=True, kw_only=True):
    """The body, which may be absent; fields that are not Deepgram's are ignored, as there."""

    ttl_seconds: Annotated[float, Meta(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S)] | None = None

    @property
    def lifetime_s(self) -> float:
        return DEFAULT_LIFETIME_S if self.ttl_seconds is None else self.ttl_seconds


class GrantAnswer(Written, frozen=True, kw_only=True):
    access_token: str
    expires_in: float


def grant_request(body: bytes) -> GrantRequest:
    """Raises `InvalidMessage`."""
    try:
        return msgspec.json.decode(body or b"{}", type=GrantRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"the body is no request for a token: {error}") from None


def granted_scopes(caller: Caller) -> frozenset[Scope]:
    """Live and recordings, as far as the caller has them. Raises `WrongScope` where it has neither."""
    scopes = frozenset(scope for scope in _SCOPES if caller.may(scope))
    if not scopes:
        raise WrongScope("this key has neither the scope live nor recordings")
    return scopes
