"""Where keys are kept: a file that all processes of a machine read, or Redis for several machines.

Every method blocks (file locks, a network): call it in a thread. The file may be a mounted Secret, which is
only read. What is stored is a list of `ApiKey`, never the text of a key.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from serve_app.access.api_keys import ApiKey

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
"""Some twenty thousand keys."""

_VERSION: Final = 1

Stamp: TypeAlias = tuple[object, ...]
"""Differs between two states of a store."""


class KeyStoreError(Exception):
    """Keys that cannot be read or written; the message says where and why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class StoredKeys:
    stamp: Stamp
    keys: tuple[ApiKey, ...]


class KeyStore(Protocol):
    """All methods raise `KeyStoreError`."""

    def read(self, known: Stamp | None = None) -> StoredKeys | None:
        """All keys; None where they are still those of the stamp `known`."""

    def add(self, key: ApiKey) -> None: ...

    def revoke(self, key_id: str, now_s: float) -> ApiKey:
        """The key as it is then. Raises `KeyError` for an unknown id; once revoked, it stays as it is."""


class _File(msgspec.Struct, frozen=True):
    version: int
    keys: list[ApiKey]


_decoder = msgspec.json.Decoder(_File)


class FileKeys:
    """Keys in a file that its owner alone may read (mode 0600), replaced as a whole; writers take turns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, known: Stamp | None = None) -> StoredKeys | None:
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
                if stamp == known:
                    return None
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return None if known == () else StoredKeys((), ())
        except OSError as error:
            raise KeyStoreError(f"{self._path}: {error.strerror or type(error).__name__}") from error
        return StoredKeys(stamp, self._decoded(data))

    def add(self, key: ApiKey) -> None:
        self._change(lambda keys: [*keys, key])

    def revoke(self, key_id: str, now_s: float) -> ApiKey:
        return _only(self._change(lambda keys: _revoked(keys, key_id, now_s)), key_id)

    def _change(self, change: Callable[[Sequence[ApiKey]], list[ApiKey]]) -> list[ApiKey]:
        try:
            with self._locked():
                found = self.read()
                keys = change(found.keys if found is not None else ())
                self._replace(msgspec.json.format(msgspec.json.encode(_File(_VERSION, keys))) + b"\n")
                return keys
        except OSError as error:
            raise KeyStoreError(f"{self._path}: {error.strerror or type(error).__name__}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """A lock on the folder, since the file itself is replaced."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _replace(self, data: bytes) -> None:
        """Owned as the file before it, the first one as its folder: root may make keys for a service."""
        descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - it is open already, with mode 0600
                before = (self._path if self._path.exists() else self._path.parent).stat()
                with suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _decoded(self, data: bytes) -> tuple[ApiKey, ...]:
        if len(data) > MAX_FILE_BYTES:
            raise KeyStoreError(f"{self._path}: larger than {MAX_FILE_BYTES} bytes")
        try:
            content = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyStoreError(f"{self._path}: not a file of keys") from error
        if content.version != _VERSION:
            raise KeyStoreError(f"{self._path}: written by another version ({content.version})")
        return tuple(content.keys)


_HASH: Final = "sotto:keys"
_STAMP: Final = "sotto:keys:changes"
_REDIS_TIMEOUT_S: Final = 2.0


class RedisKeys:
    """Keys in a hash of Redis, by their ids, and beside it a text that every change replaces."""

    def __init__(self, url: str) -> None:
        import redis

        self._redis: Any = redis.Redis.from_url(
            url, socket_timeout=_REDIS_TIMEOUT_S, socket_connect_timeout=_REDIS_TIMEOUT_S
        )

    def read(self, known: Stamp | None = None) -> StoredKeys | None:
        with _redis_errors():
            if known is not None and (self._redis.get(_STAMP),) == known:
                return None
            changes, found = self._redis.pipeline(transaction=True).get(_STAMP).hvals(_HASH).execute()
            return StoredKeys((changes,), tuple(msgspec.json.decode(one, type=ApiKey) for one in found))

    def add(self, key: ApiKey) -> None:
        with _redis_errors():
            self._write(self._redis.pipeline(transaction=True), key)

    def revoke(self, key_id: str, now_s: float) -> ApiKey:
        revoked: list[ApiKey] = []

        def change(pipeline: Any) -> None:
            found = pipeline.hget(_HASH, key_id)
            if found is None:
                raise KeyError(key_id)
            revoked[:] = _revoked([msgspec.json.decode(found, type=ApiKey)], key_id, now_s)
            pipeline.multi()
            pipeline.hset(_HASH, key_id, msgspec.json.encode(revoked[0])).set(_STAMP, secrets.token_hex(8))

        with _redis_errors():
            self._redis.transaction(change, _HASH)
        return revoked[0]

    def _write(self, pipeline: Any, key: ApiKey) -> None:
        pipeline.hset(_HASH, key.id, msgspec.json.encode(key)).set(_STAMP, secrets.token_hex(8)).execute()


@contextmanager
def _redis_errors() -> Iterator[None]:
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        # Its message may have the address, and that a password.
        raise KeyStoreError(f"Redis: {type(error).__name__}") from None
    except msgspec.DecodeError:
        raise KeyStoreError(f"Redis: {_HASH} holds something else than keys") from None


def _revoked(keys: Sequence[ApiKey], key_id: str, now_s: float) -> list[ApiKey]:
    _only(keys, key_id)
    return [
        msgspec.structs.replace(key, revoked_s=int(now_s))
        if key.id == key_id and key.revoked_s is None
        else key
        for key in keys
    ]


def _only(keys: Sequence[ApiKey], key_id: str) -> ApiKey:
    """Raises `KeyError`."""
    for key in keys:
        if key.id == key_id:
            return key
    raise KeyError(key_id)
