"""Short-lived tokens, with which a browser opens what a key of its backend may open.

A token is a JSON Web Token (RFC 7519) signed with HMAC-SHA256: as Deepgram's clients expect one, and with
nothing kept on the server. It belongs to the key that asked for it (`sub`) and holds no longer than that
key does. Only the one header that is written here is read: a token cannot choose how it is checked.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from serve_app.access.caller import Scope

MIN_LIFETIME_S: Final = 1
MAX_LIFETIME_S: Final = 3_600
MAX_TOKEN_CHARS: Final = 1_024

_PURPOSE: Final = b"sotto access token 1\0"
"""The key signs other things elsewhere: no signature of one kind may pass for another."""
_ISSUER: Final = "sotto"


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says, by JWT's names: of key `sub`, for the scopes named in `scope`, before second
    `exp`."""

    sub: str
    scope: str
    exp: Annotated[int, Meta(ge=0)]
    iat: int = 0
    jti: str = ""
    iss: str = _ISSUER

    @property
    def scopes(self) -> frozenset[Scope]:
        return frozenset(scope for scope in Scope if scope in self.scope.split())


def issue_token(
    signing_key: bytes, key_id: str, scopes: frozenset[Scope], lifetime_s: float, now_s: float
) -> str:
    token = Token(
        sub=key_id,
        scope=" ".join(sorted(scopes)),
        exp=int(now_s + lifetime_s),
        iat=int(now_s),
        jti=secrets.token_hex(8),
    )
    signed = f"{_HEADER}{_encoded(msgspec.json.encode(token))}"
    return f"{signed}.{_encoded(_signature(signing_key, signed))}"


def verify_token(signing_key: bytes, text: str, now_s: float) -> Token | None:
    """What a token of ours says; None for one that is forged, broken or expired."""
    if not text.startswith(_HEADER) or len(text) > MAX_TOKEN_CHARS or not text.isascii():
        return None
    signed, _, signature = text.rpartition(".")
    try:
        if not hmac.compare_digest(_decoded(signature), _signature(signing_key, signed)):
            return None
        token = msgspec.json.decode(_decoded(signed.removeprefix(_HEADER)), type=Token)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return token if token.iss == _ISSUER and now_s < token.exp else None


def _signature(signing_key: bytes, signed: str) -> bytes:
    return hmac.digest(signing_key, _PURPOSE + signed.encode(), "sha256")


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


_HEADER: Final = _encoded(b'{"alg":"HS256","typ":"JWT"}') + "."
