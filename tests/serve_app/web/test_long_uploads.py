"""Uploads that are transcribed as they are read: at every door the same answer as of one decoded whole."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from fakes.asgi_scope import post_scope
from fakes.encoded_audio import encoded, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from fakes.transcribe_client import client_of
from serve_app.access.caller import KeyLimits
from serve_app.access.limits import Limiter
from serve_app.audio.recording_stream import RecordingStream
from serve_app.audio.recordings import decode_recording
from serve_app.clips.ports import AudioFacts
from serve_app.clips.store import StoredClips
from serve_app.core.errors import UnknownClip
from serve_app.core.jobs import DecodeJob, DecodeResult
from serve_app.core.samples import Pcm16
from serve_app.service.contract import (
    AudioSource,
    RecordingOptions,
    RecordingSegment,
    RecordingTranscript,
)
from serve_app.service.recordings import RecordingTranscriber
from serve_app.telemetry.metrics import Metrics
from serve_app.web import arriving, uploads
from serve_app.web import clips as clip_doors
from serve_app.web.app import Guards, create_app
from serve_app.web.door import Door, Kept
from serve_app.web.door_table import DEEPGRAM, NATIVE, routes_of

TALK = speak([Say(n, ms=250, pause_ms=100 if n % 7 else 900) for n in range(1, 300)])
RECORDING = wav(TALK, 16_000)
CUT_SHORT = RECORDING[: len(RECORDING) * 2 // 3]
DURATION_S = len(TALK) / 16_000
RAW: dict[str, Any] = {"headers": {"content-type": "audio/wav"}}
LARGE: dict[str, Any] = {"max_file_size_mb": 40.0, "max_audio_length_seconds": 400.0}


class Reader(FakeService):
    """Transcribes as the real one does, with models that read what was spoken from the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.recogniser = FakeRecogniser()
        self.taken: list[Pcm16 | AudioSource] = []
        self.num_at_work = 0

    async def transcribe(
        self,
        audio: Pcm16 | AudioSource,
        options: RecordingOptions,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[RecordingSegment], None] | None = None,
    ) -> RecordingTranscript:
        self.taken.append(audio)
        transcriber = RecordingTranscriber(
            voice=FakeVoice(),
            recogniser=self.recogniser,
            max_windows_in_flight=1,
            clock=lambda: 0.0,
        )
        self.num_at_work += 1
        try:
            return await transcriber.transcribe(audio, options, progress, on_segment)
        finally:
            self.num_at_work -= 1


@pytest.fixture
def service() -> Reader:
    return Reader()


@pytest.fixture(autouse=True)
def short_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "BEGINNING_SAMPLES", 16_000)


def requests_of(recording: bytes) -> dict[str, tuple[str, dict[str, Any]]]:
    native, openai = "/transcribe?language=en&response_format=", "/v1/audio/transcriptions"
    form = {"files": {"file": ("a.wav", recording)}}
    raw = {"content": recording, **RAW}
    return {
        **{name: (native + name, raw) for name in ("verbose_json", "text", "srt", "vtt", "tsv", "ndjson")},
        "openai": (openai, form | {"data": {"model": "base", "response_format": "verbose_json"}}),
        "openai_stream": (openai, form | {"data": {"model": "base", "stream": "true"}}),
        "listen": ("/v1/listen?model=base&utterances=true", raw),
    }


def without_times(answer: httpx.Response) -> Any:
    """The body without what differs from one request to the next."""
    if "json" not in answer.headers["content-type"] or "ndjson" in answer.headers["content-type"]:
        return answer.text
    body = answer.json()
    for name in ("timestamp", "processing_time", "real_time_factor"):
        body.pop(name, None)
    for name in ("created", "request_id"):
        body.get("metadata", {}).pop(name, None)
    for utterance in body.get("results", {}).get("utterances", ()):
        utterance.pop("id")
    return body


@pytest.mark.parametrize("name", requests_of(RECORDING))
@pytest.mark.parametrize("recording", [RECORDING, CUT_SHORT], ids=["sound", "cut short"])
async def test_answers_are_those_of_the_whole(
    service: Reader, name: str, recording: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, request = requests_of(recording)[name]
    local = LocalInstruments()
    async with client_of(service, local, **LARGE) as client:
        streamed = await client.post(path, **request)
        monkeypatch.setattr(uploads, "BEGINNING_SAMPLES", len(TALK) + 1)
        whole = await client.post(path, **request)
    assert [isinstance(audio, RecordingStream) for audio in service.taken] == [True, False]
    assert (streamed.status_code, whole.status_code) == (200, 200)
    told, body = without_times(streamed), without_times(whole)
    damage = whole.headers.get("x-transcript-warning")
    if recording is CUT_SHORT and name in ("ndjson", "openai_stream"):
        told, last = told.rstrip().rsplit("\n", 1)
        last = json.loads(last.removeprefix("data: "))
        assert (last["warning"], last["complete"]) == (damage, False)
        if name == "ndjson":
            assert told + "\n" == body
        else:
            assert last["text"] in body
    else:
        assert told == body
        assert streamed.headers.get("x-transcript-warning") == damage
    assert local.value("whisper_active_requests") == 0


class Pausing(FakeRecogniser):
    """Decodes one window and waits with the next until `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on.clear()
        self.waits = asyncio.Event()

    async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncGenerator[DecodeResult, None]:
        if self.calls:
            self.waits.set()
            await self.go_on.wait()
        self.calls.append(list(jobs))
        for job in jobs:
            yield self._answer(job)


class Uploading:
    """An upload whose answer is read piece by piece."""

    def __init__(
        self,
        service: FakeService,
        query: str,
        path: str = "/transcribe",
        *,
        clips: StoredClips | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        num_bytes: int = len(RECORDING),
    ) -> None:
        """`num_bytes` of the recording come at once, others with `send_rest`."""
        kept = Kept(clips=clips)
        settings = FakeSettings(delete_audio_immediately=True, **LARGE)
        self.door = Door(service, settings, Metrics(LocalInstruments()), kept=kept)
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        more = num_bytes < len(RECORDING)
        self._rest = RECORDING[num_bytes:]
        self._incoming.put_nowait({"type": "http.request", "body": RECORDING[:num_bytes], "more_body": more})
        scope = post_scope(path, "audio/wav", query=query, headers=headers)
        app = Starlette(routes=routes_of(self.door, [NATIVE, DEEPGRAM]))
        self.task = asyncio.create_task(app(scope, self._incoming.get, self._sent.put))

    async def message(self) -> Any:
        return await self._sent.get()

    def send_rest(self) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": self._rest})

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})


async def test_the_first_segment_is_sent_while_the_rest_is_not_even_read(service: Reader) -> None:
    service.recogniser = recogniser = Pausing()
    async with asyncio.timeout(60):
        upload = Uploading(service, "language=en&response_format=ndjson")
        await recogniser.waits.wait()
        assert (await upload.message())["status"] == 200
        assert json.loads((await upload.message())["body"])["id"] == 1
        (stream,) = service.taken
        assert isinstance(stream, RecordingStream)
        assert stream.duration_s < DURATION_S * 2 / 3
        recogniser.go_on.set()
        await upload.task
    assert stream.duration_s == DURATION_S
    assert upload.door._num_uploads == 0


LENGTH = (b"content-length", str(len(RECORDING)).encode())


@pytest.fixture
def large_from_now_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "SPOOL_BYTES", 1_000)


@pytest.mark.usefixtures("large_from_now_on")
@pytest.mark.parametrize("path", ["/transcribe", "/upload+transcribe"])
async def test_a_large_upload_is_told_while_it_is_sent(service: Reader, path: str) -> None:
    query = "language=en&response_format=ndjson&diarize=false"
    async with asyncio.timeout(60):
        upload = Uploading(service, query, path, headers=[LENGTH], num_bytes=len(RECORDING) // 2)
        assert (await upload.message())["status"] == 200
        body = (await upload.message())["body"]
        assert json.loads(body)["id"] == 1
        upload.send_rest()
        while (message := await upload.message()).get("more_body"):
            body += message["body"]
        await upload.task
    async with client_of(service, **LARGE) as client:
        whole = await client.post(f"{path}?{query}", files={"file": ("a.wav", RECORDING)})
    assert body.decode() == whole.text
    assert (service.num_at_work, upload.door._num_uploads) == (0, 0)


@pytest.mark.usefixtures("large_from_now_on")
async def test_a_client_that_goes_in_the_middle_of_its_upload_leaves_no_work(service: Reader) -> None:
    query = "language=en&response_format=ndjson"
    async with asyncio.timeout(60):
        upload = Uploading(service, query, headers=[LENGTH], num_bytes=len(RECORDING) // 2)
        assert (await upload.message())["status"] == 200
        upload.leave()
        with suppress(ClientDisconnect):
            await upload.task
    assert (service.num_at_work, upload.door._num_uploads) == (0, 0)


@pytest.mark.usefixtures("large_from_now_on")
async def test_a_large_upload_that_was_cut_short_says_so(service: Reader) -> None:
    query = "/transcribe?language=en&response_format=ndjson"
    async with client_of(service, **LARGE) as client:
        told = await client.post(query, content=CUT_SHORT, **RAW)
        whole = await client.post(query, files={"file": ("a.wav", CUT_SHORT)})
    assert len(service.taken) == 2
    assert isinstance(service.taken[0], arriving.ArrivingUpload)
    assert told.text == whole.text
    assert json.loads(told.text.splitlines()[-1])["complete"] is False


@pytest.mark.usefixtures("large_from_now_on")
@pytest.mark.parametrize("form", sorted(arriving.FORMATS))
async def test_large_uploads_have_the_samples_of_the_whole(form: str) -> None:
    service = FakeService()
    data = encoded(form, 3.0)
    async with client_of(service, **LARGE) as client:
        answer = await client.post("/transcribe?response_format=ndjson", content=data, **RAW)
    assert answer.status_code == 200
    ((audio, _),) = service.uploads
    np.testing.assert_array_equal(audio, decode_recording(data).samples)


@pytest.mark.usefixtures("large_from_now_on")
@pytest.mark.parametrize(
    ("query", "settings"),
    [
        ("response_format=json", {}),
        ("response_format=ndjson&normalise=true", {}),
        ("response_format=ndjson&audio_track=0", {}),
        ("response_format=ndjson&diarize=true&diarization_backend=channel", {}),
        ("response_format=ndjson", {"request_timeout_s": 60.0}),
    ],
)
async def test_what_needs_the_whole_gets_it(service: Reader, query: str, settings: dict[str, Any]) -> None:
    async with client_of(service, **LARGE, **settings) as client:
        await client.post(f"/transcribe?{query}", content=RECORDING, **RAW)
    assert [type(audio) for audio in service.taken] != [arriving.ArrivingUpload]


@pytest.mark.usefixtures("large_from_now_on")
async def test_a_large_upload_is_refused_as_others_are(service: Reader) -> None:
    query = "/transcribe?language=en&response_format=ndjson"
    async with client_of(service, **{**LARGE, "max_audio_length_seconds": 0.5}) as client:
        assert (await client.post(query, content=RECORDING, **RAW)).status_code == 413
    async with client_of(service, **{**LARGE, "max_file_size_mb": 1.0}) as client:
        assert (await client.post(query, content=RECORDING, **RAW)).status_code == 413


@pytest.mark.parametrize("path", ["/api/transcribe", "/upload+transcribe"])
async def test_clips_are_told_as_they_are_read_too(service: Reader, path: str, tmp_path: Path) -> None:
    service.recogniser = recogniser = Pausing()
    clips = StoredClips(str(tmp_path))
    query = "language=en&response_format=ndjson&diarize=false"
    clip_id = ""
    if path == "/api/transcribe":
        facts = AudioFacts("wav", DURATION_S, 16_000, 1)
        clip_id = (await clips.keep(io.BytesIO(RECORDING), "5ha", facts, "")).clip_id
        query += f"&clip_id={clip_id}"
    accept = [(b"accept", b"text/event-stream")]
    async with asyncio.timeout(60):
        upload = Uploading(service, query, path, clips=clips, headers=accept)
        await recogniser.waits.wait()
        begun = await upload.message()
        assert (begun["status"], b"text/event-stream" in dict(begun["headers"])[b"content-type"]) == (
            200,
            True,
        )
        first = (await upload.message())["body"]
        assert first.startswith(b'data: {"id":1,')
        assert first.endswith(b"}\n\n")
        recogniser.go_on.set()
        body = b""
        while (message := await upload.message()).get("more_body"):
            body += message["body"]
        await upload.task
    assert body.count(b"data: ") > 5
    assert upload.door._num_uploads == 0
    if clip_id:  # it goes once it was transcribed, not before
        with pytest.raises(UnknownClip):
            await clips.find(clip_id, "")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/transcribe", "diarize=true&diarization_backend=channel"),
        ("/upload+transcribe", "diarize=true&diarization_backend=channel"),
        ("/v1/listen", "model=base&multichannel=true"),
        ("/api/audio", ""),
    ],
)
async def test_decoding_for_a_client_that_has_gone_stops(
    service: Reader, path: str, query: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun, stopped = threading.Event(), threading.Event()

    def endless(file: BinaryIO, **_: Any) -> None:
        begun.set()
        try:
            while True:
                file.seek(0)
                file.read(1)
        finally:
            stopped.set()

    monkeypatch.setattr(uploads, "decode_recording", endless)
    monkeypatch.setattr(clip_doors, "examine_recording", endless)
    async with asyncio.timeout(60):
        upload = Uploading(service, query, path, clips=StoredClips(str(tmp_path)))
        await asyncio.to_thread(begun.wait)
        upload.leave()
        with suppress(ClientDisconnect):
            await upload.task
        await asyncio.to_thread(stopped.wait)
    assert upload.door._num_uploads == 0


@pytest.mark.parametrize("response_format", ["ndjson", "json"])
async def test_work_for_a_client_that_has_gone_stops(service: Reader, response_format: str) -> None:
    service.recogniser = recogniser = Pausing()
    async with asyncio.timeout(60):
        upload = Uploading(service, f"language=en&response_format={response_format}")
        await recogniser.waits.wait()
        assert (service.num_at_work, upload.door._num_uploads) == (1, 1)
        upload.leave()
        with suppress(ClientDisconnect):
            await upload.task
    assert (service.num_at_work, upload.door._num_uploads) == (0, 0)
    (stream,) = service.taken
    assert isinstance(stream, RecordingStream)
    while stream._rest.gi_running:  # type: ignore[attr-defined]
        await asyncio.sleep(0.001)
    with suppress(ValueError):  # its file is closed
        [block async for block in stream.blocks()]
    assert stream.duration_s < DURATION_S


async def test_an_error_on_the_way_is_the_last_line(service: Reader) -> None:
    service.recogniser = FakeRecogniser(fails=lambda job: job.job_id > 2)
    local = LocalInstruments()
    async with client_of(service, local, **LARGE) as client:
        answer = await client.post("/transcribe?language=en&response_format=ndjson", content=RECORDING, **RAW)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["id"] == 1
    assert lines[-1] == {"detail": "cannot decode this one"}
    assert local.value("whisper_transcription_requests_total", {"status": "error", "cached": "false"}) == 1


async def test_one_that_states_too_much_asks_no_model(service: Reader) -> None:
    async with client_of(service, **{**LARGE, "max_audio_length_seconds": 30.0}) as client:
        for path, request in requests_of(RECORDING).values():
            assert (await client.post(path, **request)).status_code == 413
    assert service.taken == []


@pytest.mark.parametrize("name", ["text", "ndjson", "openai_stream", "listen"])
async def test_limits_of_audio_know_the_length_before_anything_is_done(service: Reader, name: str) -> None:
    limiter = Limiter(of_address=KeyLimits(audio_minutes_per_day=1.5 * DURATION_S / 60))
    app = create_app(service, FakeSettings(**LARGE), guards=Guards(limiter=limiter))
    transport = httpx.ASGITransport(app, client=("203.0.113.9", 1))
    path, request = requests_of(RECORDING)[name]
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        statuses = [(await client.post(path, **request)).status_code for _ in range(2)]
    assert statuses == [200, 429]
    assert len(service.taken) == 1


async def test_the_peak_of_a_long_recording_is_measured_first(service: Reader) -> None:
    async with client_of(service, normalise_uploads=True, **LARGE) as client:
        answer = await client.post("/transcribe?language=en", content=RECORDING, **RAW)
    assert answer.status_code == 200
    (stream,) = service.taken
    assert isinstance(stream, RecordingStream)
    assert stream.peak == TALK.max()


async def test_a_track_that_is_not_there(service: Reader) -> None:
    async with client_of(service, **LARGE) as client:
        answer = await client.post("/transcribe?audio_track=3", content=RECORDING, **RAW)
    assert answer.status_code == 400
    assert service.taken == []
