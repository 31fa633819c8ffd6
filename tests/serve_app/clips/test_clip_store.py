"""Clips in a folder and on an S3 server: kept, isolated, bounded, and gone when they should be."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.access.sealing import Seal
from serve_app.clips.ports import AudioFacts, ClipPage
from serve_app.clips.store import MIB, ORPHAN_AGE_S, ClipLimits, StoredClips
from serve_app.core.errors import QuotaExceeded, StorageUnavailable, UnknownClip
from serve_app.core.paging import place_of

FACTS = AudioFacts("wav", 2.0, 44_100, 2)
DATA = bytes(range(256)) * 1000
KEY = "k" * 32
BUCKET = "sotto-clips"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a folder on moto's server."""
    server_module = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in given.items():
            environment.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        yield f"s3://{BUCKET}/clips"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "clips")
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


def stored(address: str, key: str | None = None, **changes: Any) -> StoredClips:
    now_s = changes.pop("now_s", None)
    more = {} if now_s is None else {"now_s": now_s}
    return StoredClips(address, ClipLimits(**changes), Seal(key), **more)


async def kept(clips: StoredClips, key_id: str = "a", data: bytes = DATA) -> str:
    return (await clips.keep(io.BytesIO(data), "5ha", FACTS, key_id)).clip_id


async def content(clips: StoredClips, clip_id: str, key_id: str = "a") -> bytes:
    async with clips.opened(clip_id, key_id) as file:
        return await asyncio.to_thread(file.read)


def files(folder: Path, pattern: str = "*") -> list[Path]:
    return [path for path in folder.rglob(pattern) if path.is_file()]


@pytest.mark.parametrize("key", [None, KEY])
async def test_a_clip_is_kept_found_read_and_deleted(address: str, key: str | None) -> None:
    clips = stored(address, key)
    clip_id = await kept(clips)
    clip = await stored(address, key).find(clip_id, "a")
    assert (clip.num_bytes, clip.sha256, clip.audio) == (len(DATA), "5ha", FACTS)
    assert clip.expires_s - clip.created_s == 86_400
    assert await content(stored(address, key), clip_id) == DATA
    await clips.delete(clip_id, "a")
    with pytest.raises(UnknownClip):
        await clips.find(clip_id, "a")
    with pytest.raises(UnknownClip):
        await content(clips, clip_id)
    with pytest.raises(UnknownClip):
        await clips.delete(clip_id, "a")


async def test_another_key_does_not_know_it(address: str) -> None:
    clips = stored(address)
    clip_id = await kept(clips, "a")
    for stranger in ("b", "", "A", "a/../a"):
        with pytest.raises(UnknownClip):
            await clips.find(clip_id, stranger)
        with pytest.raises(UnknownClip):
            await content(clips, clip_id, stranger)
        with pytest.raises(UnknownClip):
            await clips.delete(clip_id, stranger)
    assert await content(clips, clip_id, "a") == DATA


async def test_a_key_has_so_much_room(address: str) -> None:
    clips = stored(address, max_bytes_per_key=MIB)
    big = bytes(700_000)
    first = await kept(clips, "a", big)
    with pytest.raises(QuotaExceeded, match="1 MiB"):
        await kept(clips, "a", big)
    await kept(clips, "b", big)
    await clips.delete(first, "a")
    await kept(clips, "a", big)


async def test_what_is_too_old_is_not_served_and_is_swept(address: str) -> None:
    clips = stored(address)
    clip_id = await kept(clips)
    clip = await clips.find(clip_id, "a")
    assert await clips.sweep() == 0
    late = stored(address, now_s=lambda: clip.expires_s + 2)
    with pytest.raises(UnknownClip):
        await late.find(clip_id, "a")
    assert await late.sweep() == 2
    with pytest.raises(UnknownClip):
        await clips.find(clip_id, "a")


async def test_without_its_key_a_clip_is_gone(address: str) -> None:
    clip_id = await kept(stored(address, KEY))
    for key in (None, "another key" * 4):
        with pytest.raises(UnknownClip):
            await stored(address, key).find(clip_id, "a")
        with pytest.raises(UnknownClip):
            await content(stored(address, key), clip_id)


async def test_nothing_in_clear_is_on_disk(tmp_path: Path) -> None:
    await kept(stored(str(tmp_path), KEY), data=b"the words that were said" * 10_000)
    for path in files(tmp_path):
        data = path.read_bytes()
        assert b"the words" not in data
        assert b"wav" not in data


async def test_a_clip_cannot_be_put_in_the_place_of_another(tmp_path: Path) -> None:
    clips = stored(str(tmp_path), KEY)
    mine, other = await kept(clips, "a", b"mine" * 99), await kept(clips, "b", b"other" * 99)
    (a,) = files(tmp_path, f"{mine}.audio")
    (b,) = files(tmp_path, f"{other}.audio")
    a.write_bytes(b.read_bytes())
    with pytest.raises(UnknownClip):
        await content(clips, mine)


async def test_audio_without_its_description_is_no_clip_and_is_swept(tmp_path: Path) -> None:
    clips = stored(str(tmp_path))
    clip_id = await kept(clips)
    (description,) = files(tmp_path, "*.json")
    description.unlink()
    with pytest.raises(UnknownClip):
        await content(clips, clip_id)
    assert await clips.sweep() == 0  # it may be on its way
    (audio,) = files(tmp_path, "*.audio")
    os.utime(audio, (0, audio.stat().st_mtime - ORPHAN_AGE_S))
    assert await clips.sweep() == 1
    assert not files(tmp_path, "*.audio")


async def test_a_description_that_was_cut_off_is_no_clip(tmp_path: Path) -> None:
    clips = stored(str(tmp_path))
    clip_id = await kept(clips)
    (description,) = files(tmp_path, "*.json")
    description.write_bytes(description.read_bytes()[:20])
    with pytest.raises(UnknownClip):
        await clips.find(clip_id, "a")


HALF_AND_DIE = """
import asyncio, io, os, sys
from serve_app.clips.ports import AudioFacts, ClipPage
from serve_app.clips.store import StoredClips

class Dying(io.BytesIO):
    def read(self, size=-1):
        if self.tell() > 100_000:
            print("half", flush=True)
            os.kill(os.getpid(), 9)
        return super().read(size)

clips = StoredClips(sys.argv[1])
asyncio.run(clips.keep(Dying(bytes(1_000_000)), "", AudioFacts("wav", 1.0, 16000, 1), "a"))
"""


async def test_a_process_killed_while_it_stores_leaves_no_clip(tmp_path: Path) -> None:
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", HALF_AND_DIE, str(tmp_path)], capture_output=True
    )
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, b"half\n"), died.stderr
    (half,) = files(tmp_path)
    assert half.suffix == ".audio"
    clips = stored(str(tmp_path))
    with pytest.raises(UnknownClip):
        await content(clips, half.stem)
    late = stored(str(tmp_path), now_s=lambda: half.stat().st_mtime + ORPHAN_AGE_S)
    assert await late.sweep() == 1


class Failing(io.BytesIO):
    """Breaks in the middle."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 100_000:
            raise OSError("the disk is full")
        return super().read(size)


async def test_what_could_not_be_stored_leaves_nothing(tmp_path: Path) -> None:
    clips = stored(str(tmp_path))
    with pytest.raises(StorageUnavailable):
        await clips.keep(Failing(bytes(1_000_000)), "", FACTS, "a")
    assert not files(tmp_path)


async def test_a_client_that_goes_while_its_clip_is_stored_leaves_none(tmp_path: Path) -> None:
    clips = stored(str(tmp_path))
    storing = asyncio.create_task(clips.keep(io.BytesIO(bytes(1_000_000)), "", FACTS, "a"))
    await asyncio.sleep(0)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert not files(tmp_path)


async def test_a_storage_that_is_away_says_so() -> None:
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        environment.setenv("AWS_MAX_ATTEMPTS", "1")
        clips = stored("s3://nowhere/clips")
        with pytest.raises(StorageUnavailable):
            await clips.find("0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f", "a")


def test_an_address_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="gopher"):
        stored("gopher://host/clips")


ODD = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["../../etc/passwd", "..", "/etc/passwd", "", ".", "a/b", "%2e%2e", "*", "x\0y"]),
    st.from_regex(r"[0-9a-fA-F./-]{36}", fullmatch=True),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(clip_id=ODD, key_id=ODD)
def test_no_id_leads_out_of_a_keys_folder(tmp_path: Path, clip_id: str, key_id: str) -> None:
    clips = stored(str(tmp_path / "clips"))
    with pytest.raises(UnknownClip):
        asyncio.run(clips.find(clip_id, key_id))
    with pytest.raises(UnknownClip):
        asyncio.run(content(clips, clip_id, key_id))
    with pytest.raises(UnknownClip):
        asyncio.run(clips.delete(clip_id, key_id))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(key_id=ODD)
def test_any_key_id_keeps_its_clips_inside_the_storage(tmp_path: Path, key_id: str) -> None:
    root = tmp_path / "clips"
    clip_id = asyncio.run(kept(stored(str(root)), key_id, b"x" * 100))
    assert asyncio.run(content(stored(str(root)), clip_id, key_id)) == b"x" * 100
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]
    assert {len(path.relative_to(root).parts) for path in root.rglob("*.audio")} == {2}


async def test_pages_of_clips_go_on_although_clips_come_and_go(address: str) -> None:
    clips = stored(address)
    kept_ids = {await kept(clips) for _ in range(5)}
    await kept(clips, "b")
    page = await clips.newest("a", 2)
    assert len(page.clips) == 2
    assert page.last is not None
    await clips.delete(page.clips[-1].clip_id, "a")
    newer = await kept(clips)
    seen = {clip.clip_id for clip in page.clips}
    rest = await clips.newest("a", 3, place_of(str(page.last)))
    seen |= {clip.clip_id for clip in rest.clips}
    # on S3 times are whole seconds, so a clip that is stored within the same one may stand anywhere
    assert seen - {newer} <= kept_ids
    assert len(seen) == 5
    if address.startswith("s3:"):
        return
    assert seen == kept_ids
    assert rest.last is not None
    assert (await clips.newest("a", 3, rest.last)).clips == ()
    assert newer in {clip.clip_id for clip in (await clips.newest("a", 100)).clips}


async def test_a_list_has_no_clips_that_are_gone(address: str) -> None:
    clips = stored(address)
    assert await clips.newest("a", 3) == ClipPage(())
    clip_id = await kept(clips)
    clip = await clips.find(clip_id, "a")
    assert (await clips.newest("a", 3)).clips == (clip,)
    late = stored(address, now_s=lambda: clip.expires_s + 2)
    assert (await late.newest("a", 3)).clips == ()
    assert (await stored(address, KEY).newest("a", 3)).clips == ()
