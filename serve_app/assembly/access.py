"""The keys of the service, from its settings."""

from __future__ import annotations

from serve_app.access.key_store import FileKeys, KeyStore, RedisKeys
from serve_app.access.keyring import Keyring
from serve_app.settings import Settings


def key_store(settings: Settings) -> KeyStore | None:
    """Where keys are kept; None where the settings name no place."""
    redis_url = settings.secret("redis_url")
    if settings.keys_in_redis and redis_url:
        return RedisKeys(redis_url)
    return FileKeys(settings.keys_file) if settings.keys_file is not None else None


def keyring(settings: Settings) -> Keyring | None:
    """None where no key is asked for. Reads the keys, which blocks for a moment; the caller runs
    `keep_reading`."""
    if not settings.has_keys:
        return None
    return Keyring(key_store(settings), plain=settings.secret("api_key") or None)
