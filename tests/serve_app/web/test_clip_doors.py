"""Clips over HTTP: stored, shown, transcribed and deleted by the key that owns them, unknown to any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from fakes.encoded_audio import chirp, encoded, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.owned_client import client_with_key, keyring_for
from fakes.transcribe_client import file_of
from serve_app.clips.store import MIB, ClipLimits, StoredClips
from serve_app.core.errors import InferenceError
from serve_app.service.contract import ServiceStatus
from serve_app.speakers.ports import SpeakerStatus
from serve_app.speakers.turns import SpeakerMode
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import Guards, create_app
from serve_app.web.door import Kept

TALK = wav(chirp(2.0, 16_000), 16_000)
NO_CLIP = {"detail": "there is no such clip"}


class Service(FakeService):
    """Tells speakers apart, unless `missing` says why not."""

    missing = ""

    def status(self) -> ServiceStatus:
        return replace(super().status(), speakers=SpeakerStatus("pyannote", missing=self.missing))


def client_of(
    service: FakeService,
    clips: StoredClips | None,
    key_id: str = "a",
    local: LocalInstruments | None = None,
    **changes: Any,
) -> httpx.AsyncClient:
    """A client whose key is `key_id`."""
    metrics = Metrics(local or LocalInstruments())
    settings = FakeSettings(**changes)
    app = create_app(
        service, settings, metrics, guards=Guards(keys=keyring_for(key_id)), kept=Kept(clips=clips)
    )
    return client_with_key(app, key_id)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def clips(tmp_path: Path) -> StoredClips:
    return StoredClips(str(tmp_path / "clips"), ClipLimits(max_bytes_per_key=MIB))


@pytest.fixture
async def client(service: Service, clips: StoredClips) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service, clips) as client:
        yield client


async def stored(client: httpx.AsyncClient, data: bytes = TALK) -> str:
    answer = await client.post("/api/audio", files=file_of(data))
    assert answer.status_code == 200, answer.text
    clip_id: str = answer.json()["clip_id"]
    return clip_id


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_clip_is_stored_shown_transcribed_and_deleted(
    client: httpx.AsyncClient, service: Service
) -> None:
    answer = await client.post("/api/audio", files=file_of(TALK, "talk.mp3"))
    assert answer.json() == {
        "clip_id": answer.json()["clip_id"],
        "message": "File uploaded successfully.",
    }
    clip_id = answer.json()["clip_id"]
    shown = (await client.get(f"/api/audio/{clip_id}")).json()
    assert shown["sha256"] == hashlib.sha256(TALK).hexdigest()
    facts = ("format", "duration", "sample_rate", "channels", "size_bytes", "complete")
    assert [shown[name] for name in facts] == ["wav", 2.0, 16_000, 1, len(TALK), True]
    assert shown["created_at"] < shown["expires_at"]
    for _ in range(2):
        body = (await client.post("/api/transcribe", params={"clip_id": clip_id})).json()
        assert [(part["speaker"], part["start"], part["end"], part["text"]) for part in body["segments"]] == [
            ("SPEAKER_01", 0.0, 1.0, "Hello there."),
            ("SPEAKER_02", 1.2, 2.0, "General Kenobi."),
        ]
    assert len(service.uploads[0][0]) == 32_000
    assert service.uploads[0][1].speakers is SpeakerMode.VOICE
    gone = await client.delete(f"/api/audio/{clip_id}")
    assert gone.json() == {"clip_id": clip_id, "message": "File deleted successfully."}
    for answer in (
        await client.get(f"/api/audio/{clip_id}"),
        await client.delete(f"/api/audio/{clip_id}"),
        await client.post("/api/transcribe", params={"clip_id": clip_id}),
    ):
        assert (answer.status_code, answer.json()) == (404, NO_CLIP)


async def test_a_raw_body_is_stored_too(client: httpx.AsyncClient) -> None:
    data = encoded("flac", 1.0)
    answer = await client.post("/api/audio", content=data, headers={"content-type": "audio/flac"})
    shown = (await client.get(f"/api/audio/{answer.json()['clip_id']}")).json()
    assert (shown["format"], shown["sha256"]) == ("flac", hashlib.sha256(data).hexdigest())


async def test_another_key_knows_nothing_of_a_clip(
    service: Service, clips: StoredClips, client: httpx.AsyncClient
) -> None:
    clip_id = await stored(client)
    async with client_of(service, clips, "b") as stranger:
        for answer in (
            await stranger.get(f"/api/audio/{clip_id}"),
            await stranger.delete(f"/api/audio/{clip_id}"),
            await stranger.post("/api/transcribe", params={"clip_id": clip_id}),
        ):
            assert (answer.status_code, answer.json()) == (404, NO_CLIP)
    assert service.uploads == []
    assert (await client.get(f"/api/audio/{clip_id}")).status_code == 200


@pytest.mark.parametrize(
    ("data", "name", "status"),
    [
        (b"this is no audio at all", "talk.wav", 400),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "talk.mp3", 400),
        (b"", "talk.wav", 400),
        (wav(chirp(0.05, 16_000), 16_000), "talk.wav", 400),
        (wav(chirp(40.0, 16_000), 16_000), "talk.wav", 413),
        (encoded("aiff", 1.0), "talk.wav", 415),
    ],
)
async def test_what_is_no_audio_is_not_stored(
    client: httpx.AsyncClient, tmp_path: Path, data: bytes, name: str, status: int
) -> None:
    answer = await client.post("/api/audio", files=file_of(data, name))
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert files(tmp_path) == []


async def test_a_damaged_recording_is_stored_and_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/audio", files=file_of(TALK[:-20_000]))
    assert answer.status_code == 200
    assert answer.headers["x-transcript-complete"] == "false"
    shown = (await client.get(f"/api/audio/{answer.json()['clip_id']}")).json()
    assert shown["complete"] is False


async def test_a_key_has_so_much_room(client: httpx.AsyncClient) -> None:
    long = wav(chirp(20.0, 16_000), 16_000)
    await stored(client, long)
    answer = await client.post("/api/audio", files=file_of(long))
    assert answer.status_code == 413
    assert "1 MiB" in answer.json()["detail"]


@pytest.mark.parametrize(
    "clip_id", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "x", "0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f"]
)
async def test_ids_that_were_never_given(client: httpx.AsyncClient, clip_id: str) -> None:
    for answer in (
        await client.get(f"/api/audio/{clip_id}"),
        await client.delete(f"/api/audio/{clip_id}"),
        await client.post(f"/api/transcribe?clip_id={clip_id}"),
    ):
        assert answer.status_code == 404


async def test_a_clip_can_be_deleted_once_it_is_transcribed(service: Service, clips: StoredClips) -> None:
    async with client_of(service, clips, delete_audio_immediately=True) as client:
        clip_id = await stored(client)
        service.transcribe_error = InferenceError("no")
        failed = await client.post("/api/transcribe", params={"clip_id": clip_id})
        assert (failed.status_code, failed.json()) == (500, {"detail": "no"})
        service.transcribe_error = None
        assert (await client.post("/api/transcribe", params={"clip_id": clip_id})).status_code == 200
        assert (await client.get(f"/api/audio/{clip_id}")).status_code == 404


async def test_where_nothing_is_kept_there_are_no_clips(service: Service) -> None:
    async with client_of(service, None) as client:
        for answer in (
            await client.post("/api/audio", files=file_of(TALK)),
            await client.get("/api/audio/0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f"),
            await client.post("/api/transcribe?clip_id=0f0f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f"),
        ):
            assert answer.status_code == 409
            assert "keeps no recordings" in answer.json()["detail"]
        assert (await client.post("/api/transcribe", files=file_of(TALK))).status_code == 200


async def test_speakers_are_told_apart_unless_that_is_declined_or_cannot_be(
    client: httpx.AsyncClient, service: Service
) -> None:
    clip_id = await stored(client)
    declined = (await client.post("/api/transcribe", params={"clip_id": clip_id, "diarize": "false"})).json()
    assert "speaker" not in declined["segments"][0]
    assert "diarization" not in declined
    service.missing = "install the speakers extra"
    without = (await client.post("/api/transcribe", params={"clip_id": clip_id})).json()
    assert without["diarization"] == "install the speakers extra"
    assert "speaker" not in without["segments"][0]
    assert [options.speakers for _, options in service.uploads] == [SpeakerMode.OFF] * 2


PROXY_FIELDS = [
    "transcript",
    "confidence",
    "language",
    "duration",
    "segments",
    "processing_time",
    "cached",
    "model",
]


@pytest.mark.parametrize("raw", [True, False])
async def test_without_a_clip_it_is_the_proxy_that_pages_know(
    client: httpx.AsyncClient, service: Service, raw: bool
) -> None:
    sent: Any = {"files": file_of(TALK)}
    if raw:
        sent = {"content": TALK, "headers": {"content-type": "audio/wav"}}
    answer = await client.post("/api/transcribe?language=en", **sent)
    assert list(answer.json()) == PROXY_FIELDS
    assert answer.json()["transcript"] == "Hello there. General Kenobi."
    assert answer.json()["confidence"] == 0.987
    assert answer.json()["cached"] is False
    options = service.uploads[0][1]
    assert (options.language, options.speakers) == ("en", SpeakerMode.OFF)


@pytest.mark.parametrize(
    ("data", "params", "status"),
    [(b"no audio", {}, 400), (TALK, {"language": "klingon"}, 400), (TALK, {"response_format": "pdf"}, 400)],
)
async def test_the_proxys_errors_are_a_text(
    client: httpx.AsyncClient, data: bytes, params: dict[str, str], status: int
) -> None:
    answer = await client.post("/api/transcribe", files=file_of(data), params=params)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    with_clip = await client.post("/api/transcribe", files=file_of(data), params={"clip_id": "x", **params})
    assert list(with_clip.json()) == ["detail"]


async def test_an_unexpected_failure_says_no_more_than_that(
    client: httpx.AsyncClient, service: Service
) -> None:
    service.transcribe_error = RuntimeError("secret")
    answer = await client.post("/api/transcribe", files=file_of(TALK))
    assert (answer.status_code, answer.json()) == (500, {"error": "Transcription failed"})
    single = await client.post("/upload+transcribe", files=file_of(TALK))
    assert (single.status_code, single.json()) == (500, {"detail": "Transcription failed"})


@pytest.mark.parametrize("path", ["/upload+transcribe", "/upload%2Btranscribe", "/api/upload%2btranscribe"])
async def test_upload_and_transcription_in_one_step(
    client: httpx.AsyncClient, service: Service, tmp_path: Path, path: str
) -> None:
    answer = await client.post(path, files=file_of(TALK), data={"language": "en"})
    assert answer.status_code == 200
    assert answer.json()["segments"][0]["speaker"] == "SPEAKER_01"
    assert service.uploads[0][1].language == "en"
    assert files(tmp_path) == []


@pytest.mark.parametrize("path", ["/transcribe", "/upload+transcribe", "/api/transcribe"])
async def test_formats(client: httpx.AsyncClient, path: str) -> None:
    async def as_(name: str, **headers: str) -> httpx.Response:
        parameters = {"response_format": name, "diarize": "false"}
        answer = await client.post(path, params=parameters, files=file_of(TALK), headers=headers)
        assert answer.status_code == 200
        return answer

    tsv = await as_("tsv")
    assert tsv.text == "start\tend\ttext\n0\t1000\tHello there.\n1200\t2000\tGeneral Kenobi.\n"
    assert tsv.headers["content-type"].startswith("text/tab-separated-values")
    ndjson = await as_("ndjson")
    assert ndjson.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in ndjson.text.splitlines()]
    assert [line["text"] for line in lines] == ["Hello there.", "General Kenobi."]
    events = await as_("ndjson", accept="text/event-stream")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert [json.loads(line.removeprefix("data: ")) for line in events.text.split("\n\n") if line] == lines
    verbose = (await as_("verbose_json")).json()
    assert [word["word"] for word in verbose["words"]] == ["Hello", "there", "General", "Kenobi"]
    assert "words" not in (await as_("json")).json()
    assert (await as_("vtt")).text.startswith("WEBVTT")


async def test_the_speaker_is_a_column_where_there_are_any(client: httpx.AsyncClient) -> None:
    answer = await client.post("/upload+transcribe?response_format=tsv", files=file_of(TALK))
    assert answer.text.splitlines()[:2] == ["start\tend\ttext\tspeaker", "0\t1000\tHello there.\tSPEAKER_01"]


async def test_failures_and_answers_are_counted(service: Service, clips: StoredClips) -> None:
    local = LocalInstruments()
    async with client_of(service, clips, local=local) as client:
        await client.post("/api/transcribe", files=file_of(TALK))
        await client.post("/api/transcribe", files=file_of(b"no audio"))
    requests = "whisper_transcription_requests_total"
    assert local.value(requests, {"status": "success", "cached": "false"}) == 1
    assert local.value(requests, {"status": "error", "cached": "false"}) == 1
    assert local.value("whisper_active_requests") == 0


async def test_a_list_of_clips_has_pages(
    client: httpx.AsyncClient, service: Service, clips: StoredClips
) -> None:
    made = [await stored(client) for _ in range(3)]
    first = (await client.get("/api/audio", params={"limit": "2"})).json()
    second = (await client.get("/api/audio", params={"limit": "2", "before": first["next"]})).json()
    assert [clip["clip_id"] for clip in first["clips"] + second["clips"]] == made[::-1]
    assert "next" not in second
    assert first["clips"][0] == (await client.get(f"/api/audio/{made[-1]}")).json()
    assert (await client.get("/api/audio", params={"before": "wrong"})).status_code == 400
    async with client_of(service, clips, "b") as other:
        assert (await other.get("/api/audio")).json() == {"clips": []}
    async with client_of(service, None) as without:
        assert (await without.get("/api/audio")).status_code == 409
