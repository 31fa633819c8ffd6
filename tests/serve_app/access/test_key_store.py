"""Keys in a file and in Redis: what one process writes another reads, and what goes wrong is said."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.kept_keys import NOW_S, cheap_key
from serve_app.access.key_store import MAX_FILE_BYTES, FileKeys, KeyStore, KeyStoreError, RedisKeys


@pytest.fixture(params=["file", "redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[KeyStore, KeyStore]]:
    """Two views of one place, as two processes have them."""
    if request.param == "file":
        path = tmp_path / "private" / "keys.json"
        yield FileKeys(path), FileKeys(path)
    else:
        import redis

        url = request.getfixturevalue("redis_url")
        redis.Redis.from_url(url).flushdb()
        yield RedisKeys(url), RedisKeys(url)


def test_what_one_writes_the_other_reads_once(stores: tuple[KeyStore, KeyStore]) -> None:
    writer, reader = stores
    empty = reader.read()
    assert empty is not None
    assert empty.keys == ()
    assert reader.read(empty.stamp) is None
    (_, first), (_, second) = cheap_key(name="a"), cheap_key(name="b")
    writer.add(first)
    writer.add(second)
    found = reader.read(empty.stamp)
    assert found is not None
    assert {key.id: key for key in found.keys} == {first.id: first, second.id: second}
    assert reader.read(found.stamp) is None
    assert writer.revoke(first.id, NOW_S).revoked_s == int(NOW_S)
    changed = reader.read(found.stamp)
    assert changed is not None
    assert [key.name for key in changed.keys if key.is_valid(NOW_S)] == ["b"]
    assert writer.revoke(first.id, NOW_S + 9).revoked_s == int(NOW_S)
    with pytest.raises(KeyError):
        writer.revoke("unknown", NOW_S)


def test_writers_at_once_lose_no_key(stores: tuple[KeyStore, KeyStore]) -> None:
    keys = [cheap_key(name=f"key {number}")[1] for number in range(12)]
    threads = [
        threading.Thread(target=stores[number % 2].add, args=(key,)) for number, key in enumerate(keys)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found = stores[0].read()
    assert found is not None
    assert {key.id for key in found.keys} == {key.id for key in keys}


def test_the_file_is_its_owners_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "private" / "keys.json"
    store = FileKeys(path)
    store.add(cheap_key()[1])
    before = path.stat().st_ino
    with path.open("rb") as reading:
        store.add(cheap_key()[1])
        assert len(reading.read().split(b'"digest"')) == 2
    assert path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


def test_a_mounted_secret_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Kubernetes swaps a symbolic link; the file behind it keeps its size."""
    (_, one), (_, two) = cheap_key(name="a"), cheap_key(name="b")
    for name, key in (("v1", one), ("v2", two)):
        FileKeys(tmp_path / name / "keys.json").add(key)
    link = tmp_path / "..data"
    link.symlink_to("v1")
    mounted = FileKeys(link / "keys.json")
    found = mounted.read()
    assert found is not None
    assert found.keys == (one,)
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").replace(link)
    swapped = mounted.read(found.stamp)
    assert swapped is not None
    assert swapped.keys == (two,)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"version": 2, "keys": []}', b'{"version": 1, "keys": [{"id": 3}]}', b"\xff"],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(KeyStoreError, match=r"keys\.json"):
        FileKeys(path).read()
    with pytest.raises(KeyStoreError):
        FileKeys(path).add(cheap_key()[1])
    assert path.read_bytes() == content


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(KeyStoreError, match="larger"):
        FileKeys(path).read()


def test_a_folder_in_place_of_the_file_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreError, match="directory"):
        FileKeys(tmp_path).read()


def test_redis_that_does_not_answer_is_an_error_without_its_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    store = RedisKeys(f"redis://:s3cret@127.0.0.1:{port}/0")
    for call in (store.read, lambda: store.add(cheap_key()[1]), lambda: store.revoke("a", NOW_S)):
        with pytest.raises(KeyStoreError) as failed:
            call()
        assert "s3cret" not in str(failed.value)


def test_redis_that_holds_something_else_is_an_error(redis_url: str) -> None:
    import redis

    client = redis.Redis.from_url(redis_url)
    client.flushdb()
    client.hset("sotto:keys", "a", b"?")
    with pytest.raises(KeyStoreError, match="something else"):
        RedisKeys(redis_url).read()
    client.flushdb()
