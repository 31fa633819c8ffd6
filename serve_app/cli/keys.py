"""`sotto keys`: make, list and revoke the keys of a service, where its settings keep them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from serve_app.access.api_keys import ApiKey, new_key
from serve_app.access.caller import KeyLimits, Scope
from serve_app.access.key_store import KeyStore, KeyStoreError
from serve_app.assembly.access import key_store
from serve_app.cli.console import complain, fail, note, plain, table
from serve_app.settings import SettingsError, read_some

_SETTINGS: Final = ("keys_file", "keys_in_redis", "redis_url")
_UNIT_S: Final = {"m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
_DURATION: Final = re.compile(r"(\d{1,6})([mhdw])")
_LIMITS: Final = {
    "sessions": "sessions",
    "requests_per_minute": "requests/min",
    "requests_per_day": "requests/day",
    "audio_minutes_per_minute": "audio min/min",
    "audio_minutes_per_day": "audio min/day",
}


def create_key(
    name: str,
    scopes: Sequence[str],
    limits: KeyLimits,
    expires: str | None,
    file: Path | None,
    *,
    as_json: bool,
) -> int:
    """Show a new key, once. Its text goes to standard output, all else to standard error."""
    store, now_s = _store(file), time.time()
    try:
        granted = frozenset(map(Scope, scopes))
    except ValueError:
        fail(f"--scope must be one of {', '.join(Scope)}")
    try:
        expires_s = None if expires is None else expiry(expires, now_s)
        text, key = new_key(name, granted, now_s=now_s, limits=limits, expires_s=expires_s)
    except ValueError as error:
        fail(str(error))
    try:
        store.add(key)
    except KeyStoreError as error:
        complain(str(error))
        return 1
    if as_json:
        plain(json.dumps({"key": text, **_shown(key, now_s)}, indent=2))
    else:
        plain(text)
        note(f"key {key.id} ({key.name}): it is shown this once, and only its digest is kept")
    return 0


def list_keys(file: Path | None, *, as_json: bool) -> int:
    """All keys with their state; never a key's text."""
    now_s = time.time()
    try:
        found = _store(file).read()
    except KeyStoreError as error:
        complain(str(error))
        return 1
    keys = sorted(found.keys if found is not None else (), key=lambda key: (key.created_s, key.id))
    if as_json:
        plain(json.dumps([_shown(key, now_s) for key in keys], indent=2))
        return 0
    rows = [("id", "name", "state", "scopes", "created", "expires", "limits")]
    for key in keys:
        limits = ", ".join(f"{value:g} {_LIMITS[limit]}" for limit, value in _limits(key).items())
        scopes = " ".join(sorted(key.scopes))
        expires = "never" if key.expires_s is None else _date(key.expires_s)
        rows.append(
            (key.id, key.name, key.state(now_s), scopes, _date(key.created_s), expires, limits or "none")
        )
    table(rows)
    return 0


def revoke_key(which: str, file: Path | None, *, as_json: bool) -> int:
    """Revoke the key of an id, or of a name that only one valid key has."""
    store, now_s = _store(file), time.time()
    try:
        found = store.read()
        keys = [key for key in (found.keys if found is not None else ()) if which in (key.id, key.name)]
        valid = [key for key in keys if key.id == which or key.is_valid(now_s)]
        if len(valid) > 1:
            fail(
                f"several keys are named {which!r}: give the id of one ({', '.join(key.id for key in valid)})"
            )
        if not valid:
            fail(f"there is no such key: {which}" if not keys else f"{which} holds no more")
        revoked = store.revoke(valid[0].id, now_s)
    except KeyStoreError as error:
        complain(str(error))
        return 1
    if as_json:
        plain(json.dumps(_shown(revoked, now_s), indent=2))
    else:
        note(f"key {revoked.id} ({revoked.name}) is revoked: refused everywhere within a few seconds")
    return 0


def expiry(text: str, now_s: float) -> int:
    """Unix second of `30d` (m, h, d, w from now) or of a date in UTC, `2027-01-31`. Raises `ValueError`."""
    if found := _DURATION.fullmatch(text):
        return int(now_s) + int(found.group(1)) * _UNIT_S[found.group(2)]
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise ValueError(f"--expires must be like 12h, 30d or 2027-01-31, got {text!r}") from None


def _store(file: Path | None) -> KeyStore:
    flags = {} if file is None else {"keys_file": str(file), "keys_in_redis": False}
    try:
        store = key_store(read_some(_SETTINGS, flags=flags))
    except (SettingsError, ValueError) as error:
        fail(str(error))
    if store is None:
        fail(
            "no place for keys: name the service's file with --file or STT_KEYS_FILE, or set "
            "STT_KEYS_IN_REDIS=true with STT_REDIS_URL"
        )
    return store


def _shown(key: ApiKey, now_s: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "state": key.state(now_s),
        "scopes": sorted(key.scopes),
        "limits": _limits(key),
        "created": _time(key.created_s),
        "expires": _time(key.expires_s),
        "revoked": _time(key.revoked_s),
    }


def _limits(key: ApiKey) -> dict[str, float]:
    found = {name: getattr(key.limits, name) for name in _LIMITS}
    return {name: value for name, value in found.items() if value is not None}


def _time(unix_s: int | None) -> str | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")


def _date(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")
