"""Clips in a folder and on an S3 server: kept, isolated, bounded, and gone when they should be."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serve_app.access.caller import owner_name
from serve_app.access.sealing import Seal
from serve_app.clips.ports import AudioFacts, ClipPage
from serve_app.clips.store import MIB, ORPHAN_AGE_S, ClipLimits, StoredClips
from serve_app.core.errors import QuotaExceeded, StorageUnavailable, UnknownClip
from serve_app.core.paging import place_of

FACTS = AudioFacts("wav", 2.0, 44_100, 2)
DATA = bytes(range(256)) * 1000
KEY = "k" * 32
BUCKET = "sotto-clips"
SWIFT_SERVER = Path(__file__).parents[2] / "fakes" / "swift_server.py"


@contextmanager
def bucket_on(port: int) -> Iterator[str]:
    """The address of a folder on the S3 server at a port of this machine."""
    s3fs = pytest.importorskip("s3fs")
    given = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "sotto:tester",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in given.items():
            environment.setenv(name, value)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        yield f"s3://{BUCKET}/clips"


@contextmanager
def moto() -> Iterator[int]:
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@contextmanager
def swift(folder: Path) -> Iterator[int]:
    """OpenStack Swift as Debian has it."""
    python = "/usr/bin/python3"
    found = [python, "-c", "import swift.common.middleware.s3api"]
    if not Path(python).exists() or subprocess.run(found, capture_output=True).returncode:
        pytest.skip("needs Debian's python3-swift")
    with subprocess.Popen([python, str(SWIFT_SERVER), str(folder)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@pytest.fixture(scope="module", params=["folder", "moto", "swift"])
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where folders of tests are; "" for the tests' own."""
    if request.param == "folder":
        yield ""
        return
    folder = tmp_path_factory.mktemp("swift")
    with moto() if request.param == "moto" else swift(folder) as port, bucket_on(port) as bucket:
        yield bucket


@pytest.fixture
def address(storage: str, tmp_path: Path) -> str:
    return f"{storage}/{tmp_path.name}" if storage else str(tmp_path / "clips")


def stored(address: str, key: str | None = None, **changes: Any) -> StoredClips:
    more = {name: changes.pop(name) for name in ("now_s", "forget") if name in changes}
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


async def test_what_was_made_of_a_clip_goes_before_it(address: str) -> None:
    forgotten: list[tuple[str, str]] = []
    fails = False

    async def forget(owner: str, sha256: str) -> None:
        if fails:
            raise StorageUnavailable("the cache does not answer")
        forgotten.append((owner, sha256))

    clips = stored(address, KEY, forget=forget)
    deleted, erased, kept_text, expired, failing = [await kept(clips, "a") for _ in range(5)]
    await clips.delete(deleted, "a")
    assert await clips.erase(clip_id=erased) == 1
    assert forgotten == [(owner_name("a"), "5ha")] * 2
    await clips.delete(kept_text, "a", keep_text=True)
    assert len(forgotten) == 2
    fails = True
    for failed in (clips.delete(failing, "a"), clips.erase(clip_id=failing)):
        with pytest.raises(StorageUnavailable):
            await failed
    expires_s = (await clips.find(failing, "a")).expires_s  # it is still there
    fails = False
    late = stored(address, KEY, forget=forget, now_s=lambda: expires_s + 2)
    assert await late.sweep() == 4
    assert len(forgotten) == 4
    for clip_id in (expired, failing):
        with pytest.raises(UnknownClip):
            await clips.find(clip_id, "a")


async def test_a_clip_expires_though_what_was_made_of_it_cannot_be_forgotten(address: str) -> None:
    async def forget(owner: str, sha256: str) -> None:
        raise StorageUnavailable("the cache does not answer")

    clips = stored(address)
    clip = await clips.find(await kept(clips), "a")
    late = stored(address, forget=forget, now_s=lambda: clip.expires_s + 2)
    assert await late.sweep() == 2


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
