"""From settings to what keeps things: the clips, and the cache of results with the key of its entries."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from serve_app import __version__
from serve_app.access.sealing import Seal
from serve_app.cache.entries import DiskEntries, Entries, MemoryEntries, RedisEntries
from serve_app.cache.host import CacheHost
from serve_app.cache.ports import CacheLost, ResultStore
from serve_app.cache.results import ResultCache
from serve_app.clips.store import ClipLimits, StoredClips
from serve_app.core.erasure import Eraser, Erasure
from serve_app.core.errors import StorageUnavailable
from serve_app.models.places import DEFAULT_CACHE_DIR
from serve_app.settings import Settings
from serve_app.settings.define import about
from serve_app.settings.sections_host import ModelSection, SpeakerSection
from serve_app.settings.sections_live import RecognitionSection, SoundSection, SpeechSection
from serve_app.telemetry.metrics import Metrics

MIB = 1024 * 1024
DECISIVE_SECTIONS = (ModelSection, RecognitionSection, SpeechSection, SoundSection, SpeakerSection)
"""Whose settings may change an answer: all of them count, so that none can be forgotten."""


def keeps_nothing(settings: Settings) -> bool:
    """Strict privacy: no audio and no text outlives its request."""
    return settings.privacy == "strict"


def cache_allowed(settings: Settings) -> bool:
    """Whether results may be cached: asked for, and not in strict privacy."""
    return settings.result_cache_enabled and not keeps_nothing(settings)


def clips_of(settings: Settings, cache: ResultCache | None = None) -> StoredClips | None:
    """Whose texts go from `cache` with them. None where nothing may be kept. Raises `ValueError` or
    `ImportError` for an unusable address."""
    if keeps_nothing(settings):
        return None
    limits = ClipLimits(settings.clip_retention_s, settings.clip_quota_mb * MIB)
    address = settings.audio_storage_path or str(_own_folder(settings) / "clips")

    async def forget(owner: str, sha256: str) -> None:
        if cache is None:
            return
        try:
            await cache.forget_audio(owner, sha256)
        except CacheLost as error:
            raise StorageUnavailable("the cache that has the clip's text does not answer") from error

    return StoredClips(address, limits, _seal(settings), forget=forget)


def cache_host_of(settings: Settings) -> CacheHost:
    """The cluster's one cache. Raises `CacheLost` where its folder cannot be used, `ValueError` for a Redis
    address that is none."""
    return CacheHost(_entries(settings), _seal(settings))


def result_cache_of(settings: Settings, store: ResultStore, metrics: Metrics) -> ResultCache:
    """The cache as one ingress replica uses it."""
    return ResultCache(
        store,
        kind=settings.result_cache_type,
        fingerprint=fingerprint_of(settings),
        shared=settings.result_cache_shared,
        on_lookup=lambda hit: metrics.cache_lookup(hit=hit),
        on_lost=metrics.cache_lost,
    )


class ClipEraser:
    """Deletes a clip, or all clips of a key."""

    name = "clips"
    only_if_asked = False

    def __init__(self, clips: StoredClips) -> None:
        self._clips = clips

    async def erase(self, wanted: Erasure) -> int:
        """Raises `StorageUnavailable`."""
        if not wanted.key_id and not wanted.clip_id:
            return 0  # a session stores none
        return await self._clips.erase(key_id=wanted.key_id, clip_id=wanted.clip_id)


class CacheEraser:
    """Forgets the cached results of a key; those of a clip go with the clip."""

    name = "cache"
    only_if_asked = False

    def __init__(self, cache: ResultCache) -> None:
        self._cache = cache

    async def erase(self, wanted: Erasure) -> int:
        """Raises `CacheLost`."""
        return await self._cache.forget(wanted.key_id) if wanted.key_id else 0


def erasers_of(clips: StoredClips | None, cache: ResultCache | None) -> tuple[Eraser, ...]:
    """Of what there is."""
    erasers: list[Eraser] = []
    if clips is not None:
        erasers.append(ClipEraser(clips))
    if cache is not None:
        erasers.append(CacheEraser(cache))
    return tuple(erasers)


def fingerprint_of(settings: Settings) -> str:
    """Stands for this version and all settings that may change what a recording's text is."""
    fields = {
        name: str(getattr(settings, name))
        for section in DECISIVE_SECTIONS
        for name, field in section.model_fields.items()
        if not about(field).secret
    }
    # Resolved names: a default may be another for another language.
    fields |= {"final": settings.final_model_name, "offline": settings.offline_model_name}
    return hashlib.sha256(msgspec.json.encode([__version__, fields], order="sorted")).hexdigest()


def _entries(settings: Settings) -> Entries:
    max_bytes, ttl_s = settings.result_cache_max_size_mb * MIB, settings.result_cache_ttl_s
    match settings.result_cache_type:
        case "memory":
            return MemoryEntries(max_bytes=max_bytes, ttl_s=ttl_s)
        case "disk":
            folder = settings.result_cache_dir or _own_folder(settings) / "results"
            return DiskEntries(folder.expanduser(), max_bytes=max_bytes, ttl_s=ttl_s)
        case "redis":
            return RedisEntries(settings.secret("redis_url") or "", ttl_s=ttl_s)


def _own_folder(settings: Settings) -> Path:
    return (settings.cache_dir or DEFAULT_CACHE_DIR).expanduser()


def _seal(settings: Settings) -> Seal:
    return Seal(settings.secret("storage_key"))
