"""From settings to what keys and addresses may use."""

from __future__ import annotations

from dataclasses import fields

from serve_app.access.caller import KeyLimits
from serve_app.access.limit_store import LimitStore
from serve_app.access.limits import Limiter
from serve_app.settings import Settings


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
