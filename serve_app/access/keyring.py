"""The keys that hold now, and who comes with one: what every request is checked against.

A key that was checked before costs two digests and a look-up. Otherwise its id is looked up first, so that
unknown keys cost nothing, and scrypt runs in a thread of its own, one at a time. After a key that was wrong
it rests four times as long as the check took: guesses take at most a fifth of one core.

Keys are read again every second; watchers of a key hear when it is revoked or expires.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import structlog

from serve_app.access.api_keys import ApiKey, key_id_of
from serve_app.access.caller import Caller
from serve_app.access.key_store import KeyStore, KeyStoreError, StoredKeys
from serve_app.core.errors import QueueFull

log = structlog.get_logger(__name__)

PLAIN_KEY_ID: Final = "api-key"
"""Of the one key that is a setting; stored keys have ids of hexadecimal digits."""

READ_INTERVAL_S: Final = 1.0
REST_FACTOR: Final = 4
MAX_WAITING: Final = 16
"""Keys that wait for scrypt; the next one is told to come back."""

MAX_REMEMBERED: Final = 4_096
_REPORT_INTERVAL_S: Final = 60.0


class Keyring:
    """Keys of a store, and one plain one beside them, which may do all and does not expire.

    Not thread-safe: it belongs to one event loop.
    """

    def __init__(
        self,
        store: KeyStore | None = None,
        *,
        plain: str | None = None,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Reads the store, which blocks; one that cannot be read opens nothing until it can.

        `now_s`: Unix seconds. Raises `ValueError` for an empty plain key, which every client would know.
        """
        if plain is not None and not plain:
            raise ValueError("an empty key lets everybody in")
        self._store = store
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._secret = secrets.token_bytes(32)
        self._plain = None if plain is None else self._digest(plain)
        self._keys: dict[str, ApiKey] = {}
        self._stamp: tuple[object, ...] | None = None
        self._checked: OrderedDict[bytes, ApiKey] = OrderedDict()
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._scrypt = ThreadPoolExecutor(1, thread_name_prefix="scrypt")
        self._one_at_a_time = asyncio.Lock()
        self._num_waiting = 0
        self._rests_until_s = self._reported_s = -_REPORT_INTERVAL_S
        self._take(self._read())

    def listed(self) -> tuple[tuple[ApiKey, ...], bool]:
        """The stored keys, revoked and expired ones too; whether there is a plain one beside them."""
        return tuple(self._keys.values()), self._plain is not None

    def holds(self, key_id: str) -> bool:
        """Whether the key of this id is neither unknown, revoked nor expired."""
        return self.caller_of(key_id) is not None

    def caller_of(self, key_id: str) -> Caller | None:
        """Who comes with the key of this id; None where it does not hold."""
        if key_id == PLAIN_KEY_ID:
            return Caller(PLAIN_KEY_ID, PLAIN_KEY_ID) if self._plain is not None else None
        key = self._keys.get(key_id)
        return key.caller() if key is not None and key.is_valid(self._now_s()) else None

    async def caller(self, text: str) -> Caller | None:
        """Who comes with this key; None where it is not known or no longer holds.

        Raises `QueueFull` where too many keys that were never seen before wait to be checked.
        """
        digest = self._digest(text)
        if self._plain is not None and hmac.compare_digest(digest, self._plain):
            return self.caller_of(PLAIN_KEY_ID)
        key = self._keys.get(key_id_of(text) or "")
        if key is None or not key.is_valid(self._now_s()):
            return None
        if not self._was_checked(digest, key) and not await self._check(text, digest, key):
            return None
        return self.caller_of(key.id)

    @contextmanager
    def watched(self, key_id: str, on_lost: Callable[[], None]) -> Iterator[None]:
        """`on_lost` is called once if the key ceases to hold while the block lasts, at once if it does not
        hold now."""
        if not self.holds(key_id):
            on_lost()
        watchers = self._watchers.setdefault(key_id, [])
        watchers.append(on_lost)
        try:
            yield
        finally:
            if on_lost in watchers:
                watchers.remove(on_lost)
            if not watchers and self._watchers.get(key_id) is watchers:
                del self._watchers[key_id]

    async def keep_reading(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(READ_INTERVAL_S)
            try:
                await self.refresh()
            except Exception:
                log.exception("keys were not read")

    async def refresh(self) -> None:
        """Read the store, and tell the watchers of keys that no longer hold."""
        self._take(await asyncio.to_thread(self._read))
        for key_id in [key_id for key_id in self._watchers if not self.holds(key_id)]:
            for on_lost in self._watchers.pop(key_id):
                on_lost()

    def _read(self) -> StoredKeys | None:
        """What is new; None where nothing is, or the store cannot be read: then the keys stay what they
        were."""
        if self._store is None:
            return None
        try:
            return self._store.read(self._stamp)
        except KeyStoreError as error:
            if self._monotonic_s() >= self._reported_s + _REPORT_INTERVAL_S:
                self._reported_s = self._monotonic_s()
                log.error("keys cannot be read", why=str(error))
            return None

    def _take(self, found: StoredKeys | None) -> None:
        if found is not None:
            self._stamp = found.stamp
            self._keys = {key.id: key for key in found.keys}
            log.info("keys read", num_keys=len(self._keys))

    def _was_checked(self, digest: bytes, key: ApiKey) -> bool:
        """Whether this text matched what is kept of the key now."""
        checked = self._checked.get(digest)
        if checked is None or checked.digest != key.digest:
            return False
        self._checked.move_to_end(digest)
        return True

    async def _check(self, text: str, digest: bytes, key: ApiKey) -> bool:
        if self._num_waiting >= MAX_WAITING:
            raise QueueFull("too many keys wait to be checked")
        self._num_waiting += 1
        try:
            async with self._one_at_a_time:
                if self._was_checked(digest, key):
                    return True
                await asyncio.sleep(max(0.0, self._rests_until_s - self._monotonic_s()))
                began_s = self._monotonic_s()
                matches = await asyncio.get_running_loop().run_in_executor(self._scrypt, key.matches, text)
                ended_s = self._monotonic_s()
                if not matches:
                    self._rests_until_s = ended_s + REST_FACTOR * (ended_s - began_s)
                    return False
        finally:
            self._num_waiting -= 1
        self._checked[digest] = key
        while len(self._checked) > MAX_REMEMBERED:
            self._checked.popitem(last=False)
        return True

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._secret, text.encode("utf-8", "surrogateescape"), "sha256")
