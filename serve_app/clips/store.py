"""Clips in a folder or an object store, by way of fsspec.

    <root>/<owner>/<clip id>.audio      what was uploaded, sealed where there is a storage key
    <root>/<owner>/<clip id>.json       what is known of it, written last: without it the clip is not there

`owner` is a hash of the key's id, so that no path is made of what a client sent, and a key's clips are found
in its own folder only. A process that dies while it stores a clip leaves an `.audio` alone, which nothing
serves and the sweeper takes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final, TypeVar

import fsspec
import msgspec
import structlog
from fsspec.implementations.local import LocalFileSystem

from serve_app.access.caller import OWNER_CHARS, owner_name
from serve_app.access.sealing import Seal, Unreadable
from serve_app.clips.ports import AudioFacts, Clip, ClipPage
from serve_app.core.errors import ClientError, QuotaExceeded, ServerError, StorageUnavailable, UnknownClip
from serve_app.core.paging import NEWEST, Place

log = structlog.get_logger(__name__)

MIB: Final = 1024 * 1024
ORPHAN_AGE_S: Final = 6 * 3600
"""Of an `.audio` without its `.json`: longer than any upload takes to be written."""
MIN_SWEEP_S: Final = 30.0
MAX_SWEEP_S: Final = 600.0
_MAX_LISTINGS: Final = 5
_SWEEPS_PER_RETENTION: Final = 10
_CLIP_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_OWNER: Final = re.compile(rf"[0-9a-f]{{{OWNER_CHARS}}}")

T = TypeVar("T")
Forget = Callable[[str, str], Awaitable[None]]
"""Drops what was made of a clip's audio: told its owner (`owner_name`) and sha256. Raises
`StorageUnavailable`."""


async def _nothing_to_forget(owner: str, sha256: str) -> None:
    return None


class _Kept(msgspec.Struct, frozen=True):
    """The `.json` of a clip."""

    created_s: float
    num_bytes: int
    sha256: str
    audio: AudioFacts


@dataclass(frozen=True, slots=True)
class ClipLimits:
    """`max_bytes_per_key`: of all clips of one key together."""

    retention_s: float = 86_400.0
    max_bytes_per_key: int = 10_000 * MIB


class StoredClips:
    """The `Clips` of one storage; any number of processes may share it."""

    def __init__(
        self,
        address: str,
        limits: ClipLimits | None = None,
        seal: Seal | None = None,
        *,
        forget: Forget = _nothing_to_forget,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`address`: a folder or what fsspec knows. `forget` is called before a clip is deleted. Raises
        `ValueError` for an address that it does not know and `ImportError` where the package for it is
        missing."""
        # Other processes write here too: a listing that this one remembers would be wrong.
        self._fs, root = fsspec.core.url_to_fs(
            os.path.expanduser(address), skip_instance_cache=True, use_listings_cache=False
        )
        self._root = root.rstrip("/")
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._limits = limits or ClipLimits()
        self._seal = seal or Seal(None)
        self._forget = forget
        self._now_s = now_s

    # -- Clips ---------------------------------------------------------------------------------------------

    async def keep(self, file: BinaryIO, sha256: str, audio: AudioFacts, key_id: str) -> Clip:
        storing = asyncio.ensure_future(self._in_thread(self._keep, file, sha256, audio, key_id))
        try:
            return await asyncio.shield(storing)
        except asyncio.CancelledError:
            # A thread cannot be stopped, and reads the file: wait for it, and forget a clip of unknown id.
            with contextlib.suppress(ClientError, ServerError):
                await self.delete((await storing).clip_id, key_id)
            raise

    async def find(self, clip_id: str, key_id: str) -> Clip:
        return await self._in_thread(self._find, clip_id, key_id)

    async def newest(self, key_id: str, limit: int, before: Place = NEWEST) -> ClipPage:
        return await self._in_thread(self._newest, key_id, limit, before)

    @contextlib.asynccontextmanager
    async def opened(self, clip_id: str, key_id: str) -> AsyncIterator[BinaryIO]:
        file = await self._in_thread(self._open, clip_id, key_id)
        try:
            yield file
        finally:
            await asyncio.shield(asyncio.to_thread(file.close))

    async def delete(self, clip_id: str, key_id: str, *, keep_text: bool = False) -> None:
        clip = await self.find(clip_id, key_id)
        if not keep_text:
            await self._forget(owner_name(key_id), clip.sha256)
        await self._in_thread(self._remove, self._base(clip_id, key_id))

    async def erase(self, *, key_id: str = "", clip_id: str = "") -> int:
        """Delete all clips of a key, or one clip whoever owns it; the number of clips."""
        if clip_id:
            for base in await self._in_thread(self._bases_of, clip_id):
                await self._forget_made_of(base)
            return await self._in_thread(self._erase_clip, clip_id)
        return await self._in_thread(self._erase_key, key_id)

    # -- the sweeper ---------------------------------------------------------------------------------------

    async def keep_sweeping(self) -> None:
        """Delete what is too old, for as long as this task lives; every ingress replica may."""
        pause_s = min(MAX_SWEEP_S, max(MIN_SWEEP_S, self._limits.retention_s / _SWEEPS_PER_RETENTION))
        while True:
            try:
                await self.sweep()
            except (StorageUnavailable, UnknownClip) as error:  # or another sweeper was faster
                log.warning("clips could not be swept", reason=str(error))
            await asyncio.sleep(pause_s * random.uniform(0.9, 1.1))  # replicas not all at once

    async def sweep(self) -> int:
        """Delete clips that have expired and audio that never became a clip; the number of files.

        Their time has come also where `forget` fails: what was made of them has an end of its own.
        """
        too_old = await self._in_thread(self._too_old)
        for path in too_old:
            if path.endswith(".json"):
                try:
                    await self._forget_made_of(path.removesuffix(".json"))
                except StorageUnavailable as error:
                    log.warning("what was made of a clip is left to its own time", reason=str(error))
        if too_old:
            await self._in_thread(self._remove_files, too_old)
            log.info("clips swept", num_files=len(too_old))
        return len(too_old)

    async def _forget_made_of(self, base: str) -> None:
        if (kept := await self._in_thread(self._read, base)) is not None:
            await self._forget(_last(base.rpartition("/")[0]), kept.sha256)

    # -- in threads ----------------------------------------------------------------------------------------

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.to_thread(work, *args)
        except (UnknownClip, QuotaExceeded, StorageUnavailable):
            raise
        except FileNotFoundError:
            raise UnknownClip("there is no such clip") from None
        except Exception as error:  # what an object store's library raises is its own
            log.warning("clip storage failed", error=type(error).__name__)
            raise StorageUnavailable("the storage of the clips does not answer") from error

    def _keep(self, file: BinaryIO, sha256: str, audio: AudioFacts, key_id: str) -> Clip:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        folder = self._folder(key_id)
        self._require_room(folder, size)
        clip_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
        base = f"{folder}/{clip_id}"
        kept = _Kept(self._now_s(), size, sha256, audio)
        self._make_folder(folder)
        try:
            with self._fs.open(f"{base}.audio", "wb") as target:
                self._seal.write(file, target, self._name(f"{base}.audio"))
                self._settle(target)
            self._require_room(folder, 0)  # others may have been stored meanwhile
            self._write_json(base, self._seal.seal(msgspec.json.encode(kept), self._name(f"{base}.json")))
        except BaseException:
            with contextlib.suppress(Exception):
                self._remove(base)
            raise
        return self._clip(clip_id, kept)

    def _find(self, clip_id: str, key_id: str) -> Clip:
        kept = self._read(self._base(clip_id, key_id))
        clip = None if kept is None else self._clip(clip_id, kept)
        if clip is None or clip.expires_s <= self._now_s():
            raise UnknownClip("there is no such clip")
        return clip

    def _read(self, base: str) -> _Kept | None:
        """None where there is no such clip, or its storage key is lost."""
        try:
            sealed = self._fs.cat_file(f"{base}.json")
            return msgspec.json.decode(self._seal.unseal(sealed, self._name(f"{base}.json")), type=_Kept)
        except (FileNotFoundError, Unreadable, msgspec.DecodeError):
            return None

    def _newest(self, key_id: str, limit: int, before: Place) -> ClipPage:
        """By when they were stored, as the store says: no more is opened than is answered."""
        files = ((self._modified_s(one), _last(one["name"])) for one in self._ls(self._folder(key_id)))
        places = [
            Place(when_s, name.removesuffix(".json")) for when_s, name in files if name.endswith(".json")
        ]
        clips: list[Clip] = []
        for place in sorted((one for one in places if one < before), reverse=True):
            with contextlib.suppress(UnknownClip, FileNotFoundError):
                clips.append(self._find(place.item_id, key_id))
            if len(clips) == limit:
                return ClipPage(tuple(clips), place)
        return ClipPage(tuple(clips))

    def _open(self, clip_id: str, key_id: str) -> BinaryIO:
        self._find(clip_id, key_id)
        path = f"{self._base(clip_id, key_id)}.audio"
        file = self._fs.open(path, "rb")
        try:
            return self._seal.reader(file, self._name(path))
        except Unreadable:
            file.close()
            raise UnknownClip("there is no such clip") from None

    def _bases_of(self, clip_id: str) -> list[str]:
        """Where a clip of this id would be, in the folder of each key."""
        return [f"{folder}/{clip_id}" for folder in self._owners()] if _CLIP_ID.fullmatch(clip_id) else []

    def _erase_clip(self, clip_id: str) -> int:
        bases = self._bases_of(clip_id)
        found = [base for base in bases if self._fs.exists(f"{base}.json")]
        for base in bases:
            self._remove(base)
        return len(found)

    def _erase_key(self, key_id: str) -> int:
        """What is described goes before what it describes."""
        names = [entry["name"] for entry in self._ls(self._folder(key_id)) if entry["type"] == "file"]
        described = [name for name in names if name.endswith(".json")]
        self._remove_files((*described, *(name for name in names if name not in described)))
        return len(described)

    def _owners(self) -> list[str]:
        """The folders of all keys."""
        entries = self._ls(self._root)
        folders = [entry["name"].rstrip("/") for entry in entries if entry["type"] == "directory"]
        return [folder for folder in folders if _OWNER.fullmatch(_last(folder))]

    def _too_old(self) -> list[str]:
        return [path for folder in self._owners() for path in self._too_old_in(folder)]

    def _too_old_in(self, folder: str) -> Iterator[str]:
        """Ages go by the store's own times, so that no clip has to be opened."""
        files = {_last(entry["name"]): entry for entry in self._ls(folder) if entry["type"] == "file"}
        for name, entry in files.items():
            whole = name.endswith(".json") or f"{name.removesuffix('.audio')}.json" in files
            max_age_s = self._limits.retention_s if whole else ORPHAN_AGE_S
            if self._now_s() - self._modified_s(entry) >= max_age_s:
                yield entry["name"]

    def _remove_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(path)

    # -- paths ---------------------------------------------------------------------------------------------

    def _folder(self, key_id: str) -> str:
        return f"{self._root}/{owner_name(key_id)}"

    def _base(self, clip_id: str, key_id: str) -> str:
        """Raises `UnknownClip` for an id that this service never gave."""
        if not _CLIP_ID.fullmatch(clip_id):
            raise UnknownClip("there is no such clip")
        return f"{self._folder(key_id)}/{clip_id}"

    def _name(self, path: str) -> str:
        """What a file is sealed for: it opens at no other owner's, and as no other clip."""
        return path[len(self._root) :]

    # -- the store -----------------------------------------------------------------------------------------

    def _clip(self, clip_id: str, kept: _Kept) -> Clip:
        return Clip(
            clip_id=clip_id,
            created_s=kept.created_s,
            expires_s=kept.created_s + self._limits.retention_s,
            num_bytes=kept.num_bytes,
            sha256=kept.sha256,
            audio=kept.audio,
        )

    def _require_room(self, folder: str, more_bytes: int) -> None:
        used = sum(entry.get("size") or 0 for entry in self._ls(folder))
        limit = self._limits.max_bytes_per_key
        if used + more_bytes > limit:
            raise QuotaExceeded(
                f"the clips of this key may take {limit / MIB:.0f} MiB, {used / MIB:.1f} MiB are stored: "
                "delete some, or wait until they expire"
            )

    def _ls(self, path: str) -> list[dict[str, Any]]:
        """What is in a folder, nothing where it is not there."""
        for _ in range(_MAX_LISTINGS):
            try:
                entries: list[dict[str, Any]] = self._fs.ls(path, detail=True)
            except FileNotFoundError:  # the folder, or a file of it that was deleted meanwhile
                if not self._fs.exists(path):
                    return []
            else:
                return [entry for entry in entries if entry["name"].rstrip("/") != path]
        raise StorageUnavailable("the folder of the clips cannot be listed: it changes all the time")

    def _make_folder(self, folder: str) -> None:
        if self._is_local:
            os.makedirs(self._root, mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, mode=0o700)

    def _settle(self, target: Any) -> None:
        """On a disk of this machine: it is there even if the power fails before the name of it is."""
        if self._is_local:
            target.flush()
            os.fsync(target.fileno())

    def _write_json(self, base: str, data: bytes) -> None:
        """At once or not at all: an object store does so by itself."""
        if not self._is_local:
            self._fs.pipe_file(f"{base}.json", data)
            return
        with open(f"{base}.part", "wb") as file:
            file.write(data)
            self._settle(file)
        os.replace(f"{base}.part", f"{base}.json")

    def _remove(self, base: str) -> None:
        """What makes it a clip goes first."""
        endings = (".json", ".audio", ".part") if self._is_local else (".json", ".audio")
        self._remove_files(base + ending for ending in endings)

    def _modified_s(self, entry: dict[str, Any]) -> float:
        for name in ("mtime", "LastModified", "last_modified", "created"):
            when = entry.get(name)
            if isinstance(when, datetime):
                return when.timestamp()
            if isinstance(when, (int, float)):
                return float(when)
        return float(self._fs.modified(entry["name"]).timestamp())


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
