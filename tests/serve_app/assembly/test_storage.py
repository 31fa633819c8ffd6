"""What keeps things, from settings: where, for how long, and not at all in strict privacy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from serve_app.assembly import storage
from serve_app.assembly.storage import (
    DECISIVE_SECTIONS,
    cache_allowed,
    cache_host_of,
    clips_of,
    erasers_of,
    fingerprint_of,
    result_cache_of,
)
from serve_app.cache.entries import MemoryEntries
from serve_app.cache.host import CacheHost
from serve_app.cache.ports import CacheLost
from serve_app.clips.ports import AudioFacts
from serve_app.core.erasure import Erasure
from serve_app.core.errors import QuotaExceeded, StorageUnavailable, UnknownClip
from serve_app.settings import Settings, SettingsError
from serve_app.settings.load import read_settings
from serve_app.telemetry.metrics import no_metrics


def settings_of(folder: Path, **given: Any) -> Settings:
    return Settings(cache_dir=folder, **given)


async def test_clips_go_where_the_settings_say(tmp_path: Path) -> None:
    facts = AudioFacts("wav", 1.0, 16_000, 1)
    for given, folder in (({}, "clips"), ({"audio_storage_path": str(tmp_path / "else")}, "else")):
        clips = clips_of(settings_of(tmp_path, clip_retention_s=120, clip_quota_mb=1, **given))
        assert clips is not None
        clip = await clips.keep(io.BytesIO(b"audio"), "5ha", facts, "a")
        assert clip.expires_s - clip.created_s == 120
        assert _num_files(tmp_path / folder) == 2
        with pytest.raises(QuotaExceeded):
            await clips.keep(io.BytesIO(bytes(1024 * 1024)), "5ha", facts, "a")


def _num_files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_results_go_where_the_settings_say(tmp_path: Path, kind: str) -> None:
    settings = settings_of(tmp_path, result_cache_enabled=True, result_cache_type=kind)
    host = cache_host_of(settings)
    cache = result_cache_of(settings, host, no_metrics())
    assert cache.kind == kind

    async def compute() -> bytes:
        return b"text"

    await cache.result(cache.key("5ha", "a"), compute)
    assert (await cache.result(cache.key("5ha", "a"), compute)).hit_at is not None
    assert (_num_files(tmp_path / "results") > 0) is (kind == "disk")
    await host.close()


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    with pytest.raises(CacheLost):
        cache_host_of(settings_of(tmp_path, result_cache_type="disk"))


def test_nothing_is_kept_in_strict_privacy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path, result_cache_enabled=True)
    assert cache_allowed(settings)
    assert not cache_allowed(settings_of(tmp_path))
    monkeypatch.setattr(storage, "keeps_nothing", lambda _: True)
    assert not cache_allowed(settings)
    assert clips_of(settings) is None
    assert erasers_of(None, None) == ()


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("shared", [False, True])
async def test_a_clip_takes_its_cached_text_along(tmp_path: Path, kind: str, shared: bool) -> None:
    settings = settings_of(tmp_path, result_cache_type=kind, result_cache_shared=shared)
    host = cache_host_of(settings)
    cache = result_cache_of(settings, host, no_metrics())
    clips = clips_of(settings, cache)
    assert clips is not None

    async def compute() -> bytes:
        return b"text"

    async def is_kept(sha256: str, key_id: str, *options: str) -> bool:
        return (await cache.result(cache.key(sha256, key_id, *options), compute)).hit_at is not None

    clip = await clips.keep(io.BytesIO(b"audio"), "5ha", AudioFacts("wav", 1.0, 16_000, 1), "a")
    entries = [("5ha", "a"), ("5ha", "a", "words"), ("other", "a"), ("5ha", "b", "of another key")]
    for entry in entries:
        assert not await is_kept(*entry)
    await clips.delete(clip.clip_id, "a")
    assert [await is_kept(*entry) for entry in entries] == [False, False, True, not shared]
    await host.close()


async def test_a_clip_stays_where_its_cached_text_cannot_be_dropped(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)

    class Lost(CacheHost):
        async def clear(self, prefix: str = "") -> int:
            raise CacheLost("Redis: ConnectionError")

    cache = result_cache_of(settings, Lost(MemoryEntries(max_bytes=1, ttl_s=1)), no_metrics())
    clips = clips_of(settings, cache)
    assert clips is not None
    clip = await clips.keep(io.BytesIO(b"audio"), "5ha", AudioFacts("wav", 1.0, 16_000, 1), "a")
    with pytest.raises(StorageUnavailable):
        await clips.delete(clip.clip_id, "a")
    assert await clips.find(clip.clip_id, "a") == clip


async def test_a_key_and_a_clip_are_erased_and_no_others(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, result_cache_enabled=True)
    clips = clips_of(settings)
    assert clips is not None
    cache = result_cache_of(settings, cache_host_of(settings), no_metrics())
    ids: dict[str, list[str]] = {"a": [], "b": []}

    async def compute() -> bytes:
        return b"text"

    for key_id in ids:
        for _ in range(2):
            clip = await clips.keep(io.BytesIO(b"audio"), "5ha", AudioFacts("wav", 1.0, 16_000, 1), key_id)
            ids[key_id].append(clip.clip_id)
        await cache.result(cache.key("5ha", key_id), compute)
    of_clips, of_results = erasers_of(clips, cache)
    assert [eraser.name for eraser in (of_clips, of_results)] == ["clips", "cache"]
    assert [await eraser.erase(Erasure(session_id="a")) for eraser in (of_clips, of_results)] == [0, 0]
    assert [await eraser.erase(Erasure(key_id="a")) for eraser in (of_clips, of_results)] == [2, 1]
    assert await of_clips.erase(Erasure(clip_id=ids["b"][0])) == 1
    assert await of_clips.erase(Erasure(clip_id="../" + ids["b"][1])) == 0
    for gone in (("a", ids["a"][0]), ("a", ids["a"][1]), ("b", ids["b"][0])):
        with pytest.raises(UnknownClip):
            await clips.find(gone[1], gone[0])
    assert (await clips.find(ids["b"][1], "b")).clip_id == ids["b"][1]
    assert (await cache.result(cache.key("5ha", "b"), compute)).hit_at is not None
    assert (await cache.result(cache.key("5ha", "a"), compute)).hit_at is None
    assert _num_files(tmp_path / "clips") == 2


@pytest.mark.parametrize(
    "change",
    [
        {"beam_size": 3},
        {"final_model": "small"},
        {"final_compute": "float32"},
        {"vad_backend": "webrtc"},
        {"guards_enabled": False},
        {"high_pass": True},
        {"max_speakers": 2},
        {"language": "pt"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_that_change_an_answer_change_the_key(change: dict[str, Any]) -> None:
    assert fingerprint_of(Settings(**change)) != fingerprint_of(Settings())


def test_other_settings_do_not() -> None:
    others = Settings(port=9000, max_sessions=3, api_key="k", hf_token="t", result_cache_enabled=True)
    assert fingerprint_of(others) == fingerprint_of(Settings())
    assert all(section.model_fields for section in DECISIVE_SECTIONS)


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"ENABLE_CACHE": "true", "CACHE_TYPE": "redis"}, "needs redis_url"),
        ({"STT_STORAGE_KEY": "short"}, "at least 32 characters"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read_settings(environ=environ)
