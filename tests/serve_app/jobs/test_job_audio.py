"""The audio of jobs: in a folder, in an object store, sealed or not; and sealed texts in a store."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO

import pytest
from msgspec.structs import replace

from serve_app.jobs.audio_files import StoredAudio
from serve_app.jobs.opening import open_store
from serve_app.jobs.records import Delivery, DeliveryState, Job, JobState, Outcome
from serve_app.jobs.sealed_store import UNREADABLE, SealedStore
from serve_app.jobs.store import JobStore

AUDIO = bytes(range(256)) * 1_000
NOW = 1_800_000_000.0


class Unreadable(Exception):
    pass


class Turned:
    """A seal for tests: the bytes turned by a key, with the name in front."""

    def __init__(self, key: int) -> None:
        self._key = key

    def seal(self, data: bytes, name: str) -> bytes:
        head = f"{self._key} {name}\n".encode()
        return head + bytes(byte ^ self._key for byte in data)

    def unseal(self, data: bytes, name: str) -> bytes:
        head = f"{self._key} {name}\n".encode()
        if not data.startswith(head):
            raise Unreadable
        return bytes(byte ^ self._key for byte in data[len(head) :])

    def write(self, source: BinaryIO, target: BinaryIO, name: str) -> int:
        data = source.read()
        return target.write(self.seal(data, name))

    def reader(self, file: BinaryIO, name: str) -> BinaryIO:
        with file:
            return io.BytesIO(self.unseal(file.read(), name))


@pytest.mark.parametrize("seal", [None, Turned(7)])
@pytest.mark.parametrize("root", ["folder", "memory://jobs"])
def test_audio_is_kept_until_it_is_deleted(root: str, seal: Turned | None, tmp_path: Path) -> None:
    audio = StoredAudio(root if "://" in root else str(tmp_path / root), seal)
    source = io.BytesIO(b"head" + AUDIO)
    source.seek(4)
    assert audio.put("a", source) == hashlib.sha256(AUDIO).hexdigest()
    with audio.open("a") as file:
        assert file.read(10) == AUDIO[:10]
        file.seek(-5, io.SEEK_END)
        assert file.read() == AUDIO[-5:]
    audio.delete("a")
    audio.delete("a")
    with pytest.raises(FileNotFoundError):
        audio.open("a")


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the disk is full")

    with pytest.raises(OSError):
        StoredAudio(str(tmp_path)).put("a", Broken())
    assert list(tmp_path.iterdir()) == []


def test_audio_is_sealed_on_disk(tmp_path: Path) -> None:
    StoredAudio(str(tmp_path), Turned(7)).put("a", io.BytesIO(AUDIO))
    assert AUDIO[:100] not in (tmp_path / "a").read_bytes()
    with pytest.raises(Unreadable):
        StoredAudio(str(tmp_path), Turned(8)).open("a")


def test_texts_are_sealed_in_the_store(store: JobStore) -> None:
    sealed, other = (SealedStore(store, Turned(key), Unreadable) for key in (7, 8))
    sealed.add(Job(job_id="a", owner="", kind="native", parameters=(), created_s=NOW), max_waiting=9)
    sealed.claim("t", now_s=NOW, lease_s=10)
    assert sealed.keep_part("a", "t", "one", b"secret words")
    assert sealed.parts("a") == {"one": b"secret words"}
    assert other.parts("a") == {}
    assert b"secret" not in store.parts("a")["one"]
    done = Outcome(state=JobState.DONE, ended_s=NOW, expires_s=NOW + 9, result=b"secret words")
    hook = Delivery(
        delivery_id="msg_1",
        job_id="a",
        owner="",
        url="https://example.com/",
        body=b"secret words",
        created_s=NOW,
        due_s=NOW,
    )
    assert sealed.finish("a", "t", done, hook)
    assert sealed.result("a") == b"secret words"
    assert b"secret" not in (store.result("a") or b"")
    assert other.result("a") is None
    (claimed,) = sealed.claim_deliveries(now_s=NOW, lease_s=5, limit=9)
    assert claimed.body == b"secret words"
    sealed.settle_delivery(replace(claimed, due_s=NOW + 6, error="HTTP 500"))
    (kept,) = store.deliveries("", "a")
    assert b"secret" not in kept.body
    assert other.claim_deliveries(now_s=NOW + 7, lease_s=5, limit=9) == []
    (failed,) = store.deliveries("", "a")
    assert (failed.state, failed.error) == (DeliveryState.FAILED, UNREADABLE)


def test_what_was_said_is_for_this_user_alone(tmp_path: Path) -> None:
    StoredAudio(str(tmp_path / "jobs")).put("a", io.BytesIO(AUDIO))
    assert (tmp_path / "jobs").stat().st_mode & 0o077 == 0
    store = open_store(f"sqlite:///{tmp_path / 'state' / 'jobs.db'}")
    store.add(Job(job_id="a", owner="", kind="native", parameters=(), created_s=NOW), max_waiting=9)
    files = list((tmp_path / "state").iterdir())
    assert files
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    store.close()
