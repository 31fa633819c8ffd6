"""Who asks: of a request or of a live session, as the key or the token that it came with says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

OWNER_CHARS: Final = 32


class Scope(StrEnum):
    """What a key opens: live sessions, recordings (clips and jobs too), metrics and status, and all of it
    with what changes the service (`ADMIN`)."""

    LIVE = "live"
    RECORDINGS = "recordings"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key, or one address, may use; None: as much as it wants. Minutes are of audio."""

    sessions: int | None = None
    requests_per_minute: int | None = None
    requests_per_day: int | None = None
    audio_minutes_per_minute: float | None = None
    audio_minutes_per_day: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """`key_id` names the key without being it (empty: none was needed) and owns what the caller leaves here:
    sessions, tickets, clips, jobs, cached results. `address`: the client's, behind trusted proxies the one
    that they name."""

    key_id: str = ""
    name: str = ""
    address: str = ""
    scopes: frozenset[Scope] = frozenset(Scope)
    limits: KeyLimits = KeyLimits()

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


def owner_name(key_id: str) -> str:
    """Stands for a key in folders and in keys of stores: hexadecimal, so that nothing in it means anything
    there."""
    return hashlib.sha256(key_id.encode()).hexdigest()[:OWNER_CHARS]


NO_LIMITS = KeyLimits()

ANYBODY = Caller()
"""Where no keys are asked for."""
