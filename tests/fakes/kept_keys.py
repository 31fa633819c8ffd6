"""Keys in memory, and keys that are cheap to check."""

from __future__ import annotations

import secrets

import msgspec

from serve_app.access import api_keys
from serve_app.access.api_keys import ApiKey
from serve_app.access.caller import KeyLimits, Scope
from serve_app.access.key_store import KeyStoreError, Stamp, StoredKeys

NOW_S = 1_800_000_000.0
CHEAP = (2, 1, 1)


def cheap_key(
    *scopes: Scope,
    name: str = "shop",
    expires_s: int | None = None,
    limits: KeyLimits = KeyLimits(),  # noqa: B008 - frozen
) -> tuple[str, ApiKey]:
    """A key's text and what is kept of it, of the least that scrypt can cost."""
    key_id = secrets.token_hex(6)
    text, salt = f"sotto_{key_id}_{secrets.token_hex(32)}", b"salt"
    key = ApiKey(
        id=key_id,
        name=name,
        salt=salt,
        digest=api_keys._scrypt(text, salt, CHEAP),
        cost=CHEAP,
        scopes=frozenset(scopes or Scope),
        limits=limits,
        expires_s=expires_s,
    )
    return text, key


class MemoryKeys:
    """A `KeyStore` of this process; `broken` makes it fail."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {key.id: key for key in keys}
        self.broken = False
        self.num_reads = 0
        self._changes = 0

    def read(self, known: Stamp | None = None) -> StoredKeys | None:
        if self.broken:
            raise KeyStoreError("broken")
        if known == (self._changes,):
            return None
        self.num_reads += 1
        return StoredKeys((self._changes,), tuple(self.keys.values()))

    def add(self, key: ApiKey) -> None:
        self._changes += 1
        self.keys[key.id] = key

    def revoke(self, key_id: str, now_s: float) -> ApiKey:
        self._changes += 1
        self.keys[key_id] = msgspec.structs.replace(self.keys[key_id], revoked_s=int(now_s))
        return self.keys[key_id]
