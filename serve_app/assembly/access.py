"""The keys of the service, and what keys and addresses may use, from its settings."""

from __future__ import annotations

from dataclasses import fields

from serve_app.access.caller import KeyLimits
from serve_app.access.key_store import FileKeys, KeyStore, RedisKeys
from serve_app.access.keyring import Keyring
from serve_app.access.limit_store import LimitStore
from serve_app.access.limits import Limiter
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


def limiter_of(settings: Settings, shared: LimitStore | None = None) -> Limiter:
    """Counted in Redis where it is configured, else in `shared`; None: by this process alone."""
    redis_url = settings.secret("redis_url")
    store = shared
    if redis_url:
        from serve_app.access.redis_store import RedisStore  # 0.2 s that nothing else needs

        store = RedisStore(redis_url)
    return Limiter(store, of_address=_limits(settings, "address"), of_key=_limits(settings, "key"))


def _limits(settings: Settings, whose: str) -> KeyLimits:
    return KeyLimits(
        **{field.name: getattr(settings, f"{field.name}_per_{whose}") for field in fields(KeyLimits)}
    )
