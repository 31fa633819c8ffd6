"""API keys: what is kept of one, and how its text is made and checked.

    sotto_<id>_<secret>        id: 12 hexadecimal digits, secret: 256 random bits in hexadecimal

The text is shown once. What is kept is scrypt's digest of it under a salt of its own (RFC 7914), which
says nothing about a secret of that many bits; the id finds the key without trying all, and names it in logs.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Final

import msgspec

from serve_app.access.caller import Caller, KeyLimits, Scope

PREFIX: Final = "sotto_"
MAX_NAME_CHARS: Final = 100

_TEXT: Final = re.compile(r"sotto_([0-9a-f]{12})_[0-9a-f]{64}", re.ASCII)
_SALT_BYTES: Final = 16
_DIGEST_BYTES: Final = 32
_COST: Final = {"n": 2**14, "r": 8, "p": 1}
"""16 MiB and about 40 ms of one core. Parameters of keys made before must stay checkable: `ApiKey.cost`."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One key as it is stored. Times are Unix seconds; `expires_s` None: it does not expire."""

    id: str
    name: str
    salt: bytes
    digest: bytes
    cost: tuple[int, int, int]
    scopes: frozenset[Scope]
    limits: KeyLimits = KeyLimits()
    created_s: int = 0
    expires_s: int | None = None
    revoked_s: int | None = None

    def is_valid(self, now_s: float) -> bool:
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)

    def state(self, now_s: float) -> str:
        """For a person: `active`, `revoked` or `expired`."""
        if self.revoked_s is not None:
            return "revoked"
        return "active" if self.is_valid(now_s) else "expired"

    def matches(self, text: str) -> bool:
        """Whether `text` is this key, in constant time; 40 ms of one core, so never on an event loop."""
        return hmac.compare_digest(self.digest, _scrypt(text, self.salt, self.cost))

    def caller(self) -> Caller:
        return Caller(self.id, self.name, scopes=self.scopes, limits=self.limits)


def new_key(
    name: str,
    scopes: frozenset[Scope],
    *,
    now_s: float,
    limits: KeyLimits = KeyLimits(),  # noqa: B008 - frozen
    expires_s: int | None = None,
) -> tuple[str, ApiKey]:
    """A key's text, to be shown once, and what is kept of it. Raises `ValueError` for what makes no sense."""
    if not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise ValueError(f"a key needs a name of 1 to {MAX_NAME_CHARS} printable characters")
    if not scopes:
        raise ValueError("a key without a scope opens nothing")
    if expires_s is not None and expires_s <= now_s:
        raise ValueError("a key must expire in the future")
    key_id = secrets.token_hex(6)
    text = f"{PREFIX}{key_id}_{secrets.token_hex(32)}"
    salt, cost = secrets.token_bytes(_SALT_BYTES), (_COST["n"], _COST["r"], _COST["p"])
    return text, ApiKey(
        id=key_id,
        name=name,
        salt=salt,
        digest=_scrypt(text, salt, cost),
        cost=cost,
        scopes=scopes,
        limits=limits,
        created_s=int(now_s),
        expires_s=expires_s,
    )


def key_id_of(text: str) -> str | None:
    """The id in a key's text; None where it is no key of this form."""
    found = _TEXT.fullmatch(text)
    return found.group(1) if found else None


def _scrypt(text: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    n, r, p = cost
    return Scrypt(salt=salt, length=_DIGEST_BYTES, n=n, r=r, p=p).derive(text.encode())
