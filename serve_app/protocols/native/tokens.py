"""`POST /auth/token`: a short-lived token for a browser, made with a key that stays with its backend."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from serve_app.access.caller import Caller, Scope
from serve_app.access.tokens import MAX_LIFETIME_S, MIN_LIFETIME_S
from serve_app.core.errors import InvalidMessage, WrongScope
from sotto_client.wire import Written

MAX_BODY_BYTES = 4 * 1024
DEFAULT_LIFETIME_S = 60


class TokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the token may open, and for how long it may be used to begin; what it began goes on."""

    scopes: Annotated[
        list[Literal["live", "recordings", "metrics"]],
        Meta(min_length=1, max_length=3, description="At most those of the key."),
    ] = msgspec.field(default_factory=lambda: ["live"])
    lifetime_s: Annotated[
        int, Meta(ge=MIN_LIFETIME_S, le=MAX_LIFETIME_S, description="Seconds in which it can be used.")
    ] = DEFAULT_LIFETIME_S


class TokenAnswer(Written, frozen=True, kw_only=True):
    """The token, to be sent like a key, and the Unix second at which it expires."""

    token: str
    expires_at: int
    scopes: list[str]


def token_request(body: bytes) -> TokenRequest:
    """An empty body asks for the defaults. Raises `InvalidMessage`."""
    try:
        return msgspec.json.decode(body or b"{}", type=TokenRequest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidMessage(f"the body is no request for a token: {error}") from None


def granted_scopes(request: TokenRequest, caller: Caller) -> frozenset[Scope]:
    """Raises `WrongScope` for one that the caller's key does not have."""
    scopes = frozenset(map(Scope, request.scopes))
    for scope in sorted(scopes):
        if not caller.may(scope):
            raise WrongScope(f"this key does not have the scope {scope}")
    return scopes
