"""The result cache as a door uses it: by a key of all that decides the answer, each result computed once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from serve_app.access.caller import owner_name
from serve_app.cache.flights import Flights
from serve_app.cache.ports import CLAIM_S, CacheLost, CacheStats, ResultStore

_SHARED: Final = "shared"
_AUDIO_CHARS: Final = 32

log = structlog.get_logger(__name__)


class _Entry(msgspec.Struct, frozen=True):
    cached_at: datetime
    result: bytes


@dataclass(frozen=True, slots=True)
class CachedResult:
    """`value`: what was computed. `cached_at`: when it was kept, None where it was not. `hit_at`: when it was
    found; None: it was computed for this answer."""

    value: bytes
    cached_at: datetime | None
    hit_at: datetime | None


class ResultCache:
    """Looks results up, computes those that are missing and keeps them; one per ingress replica.

    `kind`: where they are kept, as the settings name it. `fingerprint` stands for the settings and the
    version that decide an answer. `shared`: a key may be answered from what another key uploaded.
    """

    def __init__(
        self,
        store: ResultStore,
        *,
        kind: str,
        fingerprint: str = "",
        shared: bool = False,
        on_lookup: Callable[[bool], None] = lambda hit: None,
        on_lost: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.kind = kind
        self._store = store
        self._fingerprint = fingerprint
        self._shared = shared
        self._on_lookup = on_lookup
        self._on_lost = on_lost
        self._now = now
        self._flights: Flights[CachedResult] = Flights()
        self._is_lost = False

    def key(self, audio_sha256: str, key_id: str, *decisive: Any) -> str:
        """`decisive`: options and models, records or plain values. Keys of two `key_id` never are the same,
        unless results are shared."""
        parts = [self._fingerprint, audio_sha256, *decisive]
        digest = hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
        return self._prefix(owner_name(key_id), audio_sha256) + digest

    def _prefix(self, owner: str, audio_sha256: str = "") -> str:
        """Of all keys of one owner, or of those for one recording of theirs."""
        owner = _SHARED if self._shared else owner
        if not audio_sha256:
            return f"{owner}-"
        audio = hashlib.sha256(f"{owner} {audio_sha256}".encode()).hexdigest()[:_AUDIO_CHARS]
        return f"{owner}-{audio}-"

    async def result(
        self, key: str, compute: Callable[[], Awaitable[bytes]], release: Callable[[], None] = lambda: None
    ) -> CachedResult:
        """The result under `key`: found, or computed: here, or for who asked for the same a moment before.

        `compute` goes on while someone waits for it. `release` is called once, when `compute`
        is done or is not needed. Raises what `compute` raises, which is not kept.
        """
        is_taken = False

        def begin() -> asyncio.Task[CachedResult]:
            nonlocal is_taken
            is_taken = True
            task = asyncio.create_task(self._found_or_computed(key, compute), name="cached result")
            task.add_done_callback(lambda _: release())
            return task

        try:
            found = await self._flights.join(key, begin)
        finally:
            if not is_taken:
                release()
        if not is_taken and found.hit_at is None:  # another one of these has computed it
            found = CachedResult(found.value, found.cached_at, self._now())
        self._on_lookup(found.hit_at is not None)
        return found

    async def clear(self) -> None:
        """Of every ingress replica. Raises `CacheLost`."""
        await self._store.clear()

    async def forget(self, key_id: str) -> int:
        """The results of one key, all of them where they are shared; their number. Raises `CacheLost`."""
        return await self._store.clear(self._prefix(owner_name(key_id)))

    async def forget_audio(self, owner: str, audio_sha256: str) -> None:
        """The results for one recording of an owner (`owner_name`). Raises `CacheLost`."""
        await self._store.clear(self._prefix(owner, audio_sha256))

    async def stats(self) -> CacheStats:
        """Raises `CacheLost`."""
        return await self._store.stats()

    async def _found_or_computed(self, key: str, compute: Callable[[], Awaitable[bytes]]) -> CachedResult:
        found = await self._looked_up(key)
        if found is not None:
            return CachedResult(found.result, found.cached_at, self._now())
        value = await self._computed(key, compute)
        entry = _Entry(self._now(), value)
        try:
            await self._store.keep(key, msgspec.msgpack.encode(entry))
        except CacheLost as error:
            self._lost(error)
            return CachedResult(value, None, None)
        return CachedResult(value, entry.cached_at, None)

    async def _computed(self, key: str, compute: Callable[[], Awaitable[bytes]]) -> bytes:
        """What no other process computes then; without a result it is theirs again."""
        renewing = asyncio.create_task(self._keep_renewing(key), name="claim")
        try:
            return await compute()
        except BaseException:
            with contextlib.suppress(CacheLost):
                await asyncio.shield(self._store.release(key))
            raise
        finally:
            renewing.cancel()

    async def _keep_renewing(self, key: str) -> None:
        while True:
            await asyncio.sleep(CLAIM_S / 3)
            with contextlib.suppress(CacheLost):
                await self._store.renew(key)

    async def _looked_up(self, key: str) -> _Entry | None:
        try:
            while (looked := await self._store.look_up(key)).claimed:
                continue  # it waits there
        except CacheLost as error:
            self._lost(error)
            return None
        data = looked.value
        if self._is_lost:
            self._is_lost = False
            log.info("result cache is back")
        try:
            return None if data is None else msgspec.msgpack.decode(data, type=_Entry)
        except msgspec.MsgspecError:
            return None

    def _lost(self, error: CacheLost) -> None:
        """One line in the log for an outage, a count for every upload that went without."""
        self._on_lost()
        if not self._is_lost:
            self._is_lost = True
            log.warning("result cache lost: uploads are transcribed without it", reason=str(error))
