"""Uploads in strict privacy: no file, also where they are large, and a bound for all of them."""

from __future__ import annotations

import asyncio
import tempfile

import httpx
import pytest

from fakes.app_server import running_app
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from serve_app.core.errors import QueueFull
from serve_app.web import uploads
from serve_app.web.app import create_app
from serve_app.web.upload_memory import HeldMemory, UploadMemory

RECORDING = wav(chirp(20.0, 16_000), 16_000)


@pytest.fixture
def rolled(monkeypatch):
    """Temporary files that came to be on a disk; everything above a few bytes would."""
    monkeypatch.setattr(uploads, "SPOOL_BYTES", 1_000)
    monkeypatch.setattr(uploads._Parser, "spool_max_size", 1_000)
    found = []
    rollover = tempfile.SpooledTemporaryFile.rollover

    def noticed(self):
        found.append(self)
        rollover(self)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", noticed)
    return found


async def upload(path, privacy, **request):
    app = create_app(FakeService(), FakeSettings(privacy=privacy))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        return await client.post(path, **request)


REQUESTS = {
    "/transcribe": {"files": {"file": ("a.wav", RECORDING)}},
    "/v1/audio/transcriptions": {"files": {"file": ("a.wav", RECORDING)}, "data": {"model": "base"}},
    "/v1/listen": {"content": RECORDING, "headers": {"content-type": "audio/wav"}},
    "/upload+transcribe": {"files": {"file": ("a.wav", RECORDING)}},
    "/api/transcribe": {"content": RECORDING, "headers": {"content-type": "audio/wav"}},
}


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize(("privacy", "is_on_disk"), [("standard", True), ("strict", False)])
async def test_a_large_upload(rolled, path, privacy, is_on_disk):
    answer = await upload(path, privacy, **REQUESTS[path])
    assert answer.status_code == 200
    assert bool(rolled) is is_on_disk


def test_the_bound_holds_for_all_together():
    memory = UploadMemory(10)
    first, second = HeldMemory(memory), HeldMemory(memory)
    first.take(6)
    second.take(4)
    with pytest.raises(QueueFull):
        second.take(1)
    first.release()
    first.release()
    assert memory.num_bytes == 4
    second.take(6)
    second.release()
    assert memory.num_bytes == 0


@pytest.mark.parametrize(
    "request_",
    [*REQUESTS.items(), ("/transcribe", {"content": b"", "headers": {"content-type": "audio/wav"}})],
)
async def test_memory_is_given_back_and_missed_in_the_doors_words(monkeypatch, request_):
    seen: list[UploadMemory] = []

    class Small(UploadMemory):
        def __init__(self, max_bytes):
            super().__init__(max_bytes)
            seen.append(self)

    monkeypatch.setattr("serve_app.web.door.UploadMemory", Small)
    path, request = request_
    await upload(path, "strict", **request)
    assert seen[0].num_bytes == 0

    class Full(UploadMemory):
        def __init__(self, max_bytes):
            super().__init__(100)
            seen.append(self)

    monkeypatch.setattr("serve_app.web.door.UploadMemory", Full)
    if request.get("content") != b"":
        answer = await upload(path, "strict", **request)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert seen[1].num_bytes == 0


async def test_a_client_that_leaves_gives_its_memory_back(monkeypatch):
    seen: list[UploadMemory] = []

    class Known(UploadMemory):
        def __init__(self, max_bytes):
            super().__init__(max_bytes)
            seen.append(self)

    monkeypatch.setattr("serve_app.web.door.UploadMemory", Known)
    with running_app(create_app(FakeService(), FakeSettings(privacy="strict"))) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /transcribe HTTP/1.1\r\nhost: a\r\n"
            b"content-type: audio/wav\r\ncontent-length: 900000\r\n\r\n"
        )
        writer.write(RECORDING[:300_000])
        await writer.drain()
        await until(lambda: seen[0].num_bytes > 0)
        writer.close()
        await until(lambda: seen[0].num_bytes == 0)


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)
