"""Uploads that are transcribed as they are read: at every door the same answer as of one decoded whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from fakes.asgi_scope import post_scope
from fakes.encoded_audio import wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from fakes.transcribe_client import client_of
from serve_app.access.caller import KeyLimits
from serve_app.access.limits import Limiter
from serve_app.audio.recording_stream import RecordingStream
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
from serve_app.web import uploads
from serve_app.web.app import Guards, create_app
from serve_app.web.door import Door
from serve_app.web.door_table import NATIVE, routes_of

TALK = speak([Say(n, ms=250, pause_ms=100 if n % 7 else 900) for n in range(1, 180)])
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
    """An upload to `/transcribe` whose answer is read piece by piece."""

    def __init__(self, service: FakeService, query: str) -> None:
        self.door = Door(service, FakeSettings(**LARGE), Metrics(LocalInstruments()))
        self._incoming: asyncio.Queue[Any] = asyncio.Queue()
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": RECORDING})
        scope = post_scope("/transcribe", "audio/wav", query=query)
        app = Starlette(routes=routes_of(self.door, [NATIVE]))
        self.task = asyncio.create_task(app(scope, self._incoming.get, self._sent.put))

    async def message(self) -> Any:
        return await self._sent.get()

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
