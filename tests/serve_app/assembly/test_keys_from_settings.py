"""Where the keys of a service are, by its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.kept_keys import cheap_key
from serve_app.access.key_store import FileKeys, RedisKeys
from serve_app.access.keyring import PLAIN_KEY_ID
from serve_app.assembly.access import key_store, keyring
from serve_app.settings import Settings, SettingsError, load_settings


def settings(**flags: object) -> Settings:
    return load_settings(flags=flags, environ={})


async def test_without_keys_none_are_asked_for() -> None:
    assert keyring(settings()) is None
    assert keyring(settings(redis_url="redis://127.0.0.1")) is None
    assert key_store(settings(api_key="k")) is None


async def test_a_file_that_is_not_there_yet_opens_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    ring = keyring(settings(keys_file=str(path), api_key="plain"))
    assert ring is not None
    text, key = cheap_key()
    assert await ring.caller(text) is None
    FileKeys(path).add(key)
    await ring.refresh()
    assert await ring.caller(text) is not None
    assert ring.holds(PLAIN_KEY_ID)


def test_redis_keeps_them_only_where_that_is_said() -> None:
    assert isinstance(key_store(settings(keys_in_redis="true", redis_url="redis://127.0.0.1")), RedisKeys)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"keys_in_redis": "true"}, "redis_url"),
        ({"keys_in_redis": "true", "redis_url": "redis://h", "keys_file": "k"}, "exclude"),
        ({"metrics_need_key": "true"}, "api_key, keys_file or keys_in_redis"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(flags: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        settings(**flags)
