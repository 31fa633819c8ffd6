"""Uploads that take longer than requests may: each door's own error, when to come back, and no work left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService
from fakes.transcribe_client import client_of

RECORDING = wav(chirp(1.0, 16_000), 16_000)
LIMIT = "the request was not done within 0.05 s"
FORM: dict[str, Any] = {"files": {"file": ("a.wav", RECORDING)}, "data": {"model": "base"}}
RAW: dict[str, Any] = {"content": RECORDING, "headers": {"content-type": "audio/wav"}}


@pytest.fixture
def service() -> FakeService:
    return FakeService(transcribe_gate=asyncio.Event())


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service, request_timeout_s=0.05) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "request_of", "body"),
    [
        ("/transcribe", RAW, {"detail": LIMIT}),
        ("/v1/audio/transcriptions", FORM, {"error": {"message": LIMIT, "type": "server_error"}}),
        ("/v1/listen", RAW, {"err_code": "GATEWAY_TIMEOUT", "err_msg": LIMIT}),
    ],
)
async def test_every_upload_door_gives_up_in_its_own_words(
    client: httpx.AsyncClient,
    service: FakeService,
    path: str,
    request_of: dict[str, Any],
    body: dict[str, Any],
) -> None:
    answer = await client.post(path, **request_of)
    assert (answer.status_code, answer.headers["retry-after"]) == (504, "30")
    said = answer.json()
    for name, value in body.items():
        assert value.items() <= said[name].items() if isinstance(value, dict) else said[name] == value
    assert service.num_cancelled_uploads == 1


@pytest.mark.parametrize(("heartbeat_s", "status"), [(0.01, 200), (60.0, 504)], ids=["begun", "not begun"])
async def test_a_stream_of_text_ends_with_the_error(
    service: FakeService, heartbeat_s: float, status: int
) -> None:
    request = FORM | {"data": {"model": "base", "stream": "true"}}
    async with client_of(service, request_timeout_s=0.05, heartbeat_s=heartbeat_s) as client:
        answer = await client.post("/v1/audio/transcriptions", **request)
    assert answer.status_code == status
    assert LIMIT in answer.text
    assert service.num_cancelled_uploads == 1


async def test_without_a_limit_there_is_none(service: FakeService) -> None:
    assert service.transcribe_gate is not None
    async with client_of(service) as client:
        waiting = asyncio.create_task(client.post("/transcribe", **RAW))
        while not service.uploads:
            await asyncio.sleep(0.01)
        service.transcribe_gate.set()
        assert (await waiting).status_code == 200


async def test_an_error_within_the_time_is_itself(client: httpx.AsyncClient, service: FakeService) -> None:
    service.transcribe_gate = None
    service.transcribe_error = TimeoutError("of something else")
    answer = await client.post("/transcribe", **RAW)
    assert (answer.status_code, answer.json()["detail"]) == (500, "Transcription failed")
