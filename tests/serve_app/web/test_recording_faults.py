"""What uploads are refused for, and what is said of those that are only partly good."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from fakes.encoded_audio import chirp, encoded, silent_film, timed, wav
from fakes.fake_service import FakeService
from fakes.transcribe_client import client_of, file_of

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[2] / "golden" / "files"
WHOLE = wav(chirp(2.0, 16_000), 16_000)
CUT = WHOLE[: len(WHOLE) // 2]
FORMATS = "expected flac, mp3, mp4, ogg, wav, webm"
OPENAI = "/v1/audio/transcriptions"


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(service) as client:
        yield client


def form(*parts: tuple[str, bytes]) -> dict[str, object]:
    body = b"".join(
        b"--x\r\nContent-Disposition: " + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts
    )
    return {"content": body + b"--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}


@pytest.mark.parametrize(
    "disposition", ['form-data; name="file"', "form-data; name=file", 'form-data; name="audio"']
)
async def test_a_recording_needs_no_file_name(
    client: httpx.AsyncClient, service: FakeService, disposition: str
) -> None:
    fields = ('form-data; name="language"', b"de")
    answer = await client.post("/transcribe", **form((disposition, WHOLE), fields))
    assert answer.status_code == 200
    audio, options = service.uploads[0]
    np.testing.assert_array_equal(audio, chirp(2.0, 16_000))
    assert options.language == "de"


async def test_openais_door_needs_no_file_name_either(client: httpx.AsyncClient) -> None:
    model = ('form-data; name="model"', b"base")
    answer = await client.post(OPENAI, **form(('form-data; name="file"', WHOLE), model))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"hello, this is no audio at all", f"the data is text, no audio that can be decoded: {FORMATS}"),
        (b"<!doctype html><html></html>", f"the data is a web page, no audio that can be decoded: {FORMATS}"),
        (b'\n{"error": "not found"}', f"the data is JSON, no audio that can be decoded: {FORMATS}"),
        (b"PK\x03\x04" + bytes(60), f"the data is a ZIP archive, no audio that can be decoded: {FORMATS}"),
        (
            b"RIFF\0\0\0\0AVI LIST" + bytes(60),
            f"the data is AVI video, no audio that can be decoded: {FORMATS}",
        ),
        (bytes(4_000), f"the data is no audio that can be decoded: {FORMATS}"),
        (encoded("m4a")[:10_000], "its index (moov) is missing or damaged"),
        (encoded("webm")[:200], "the data is no webm that can be decoded: it is damaged or was cut off"),
        (silent_film(), "the data holds no audio stream, only video"),
        (WHOLE[:44], "no audio could be decoded from the wav data: it holds no sound"),
        (b"ID3\x04\0\0\0\0\0\x0a" + bytes(10), "the file holds a tag and no audio"),
    ],
)
async def test_refusals_name_the_fault(client: httpx.AsyncClient, data: bytes, fault: str) -> None:
    answer = await client.post("/transcribe", files=file_of(data))
    assert answer.status_code == 400
    assert fault in answer.json()["detail"]


async def test_a_form_without_the_recording_says_what_came(client: httpx.AsyncClient) -> None:
    answer = await client.post("/transcribe", files={"recording": ("a.wav", WHOLE)}, data={"language": "de"})
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith("is missing: the fields are 'language', 'recording'")
    answer = await client.post("/transcribe", data={"language": "de"})
    assert answer.status_code == 415
    assert "send multipart/form-data with a field 'file'" in answer.json()["detail"]


MADE_UP = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0x40000000, 0x3FFFFFFF)


@pytest.mark.parametrize("riff_bytes", [*MADE_UP, 36, 0x7FFFF024, 0x80000024, 0x40000024])
@pytest.mark.parametrize("data_bytes", [*MADE_UP, 64_000])
async def test_a_size_that_was_made_up_is_no_missing_data(
    client: httpx.AsyncClient, service: FakeService, riff_bytes: int, data_bytes: int
) -> None:
    data = bytearray(WHOLE)
    data[4:8], data[40:44] = struct.pack("<I", riff_bytes), struct.pack("<I", data_bytes)
    answer = await client.post("/transcribe", files=file_of(bytes(data)))
    assert answer.status_code == 200
    assert "warning" not in answer.json()
    assert "x-transcript-warning" not in answer.headers
    np.testing.assert_array_equal(service.uploads[0][0], chirp(2.0, 16_000))


@pytest.mark.parametrize("response_format", ["json", "text", "srt", "vtt"])
@pytest.mark.parametrize("path", ["/transcribe", OPENAI])
async def test_every_format_says_that_audio_is_missing(
    client: httpx.AsyncClient, path: str, response_format: str
) -> None:
    data = {"response_format": response_format} | ({"model": "base"} if path == OPENAI else {})
    answer = await client.post(path, files=file_of(CUT), data=data)
    assert answer.status_code == 200
    assert (
        answer.headers["x-transcript-warning"] == f"the recording states {len(WHOLE)} bytes, {len(CUT)} came"
    )
    assert answer.headers["x-transcript-complete"] == "false"
    whole = await client.post(path, files=file_of(WHOLE), data=data)
    assert "x-transcript-warning" not in whole.headers
    assert "x-transcript-complete" not in whole.headers


async def test_a_streamed_answer_says_so_too(client: httpx.AsyncClient) -> None:
    data = {"model": "base", "stream": "true"}
    answer = await client.post(OPENAI, files=file_of(CUT), data=data)
    assert answer.headers["x-transcript-complete"] == "false"


async def test_channels_that_cancel_each_other_are_told_and_nothing_is_missing(
    client: httpx.AsyncClient,
) -> None:
    data = (GOLDEN / "t03_phase.flac").read_bytes()
    answer = await client.post("/transcribe", files=file_of(data))
    assert "opposite phase" in answer.json()["warning"]
    assert answer.json()["complete"] is True
    assert answer.headers["x-transcript-complete"] == "true"
    listen = await client.post("/v1/listen", content=data, headers={"content-type": "audio/flac"})
    assert [warning["type"] for warning in listen.json()["metadata"]["warnings"]] == ["audio"]


@pytest.mark.parametrize("as_query", [True, False])
async def test_the_audio_track_is_chosen(
    client: httpx.AsyncClient, service: FakeService, as_query: bool
) -> None:
    film = timed("mkv", [[(0.0, chirp(1.0, 48_000))], [(0.0, chirp(2.0, 48_000))]], default=1)
    for track, duration_s in ((None, 2.0), ("0", 1.0), ("1", 2.0)):
        chosen = {} if track is None else {"audio_track": track}
        choices = {"params": chosen} if as_query else {"data": chosen}
        assert (await client.post("/transcribe", files=file_of(film), **choices)).status_code == 200
        assert len(service.uploads[-1][0]) / 16_000 == pytest.approx(duration_s, abs=0.05)
    for track, fault in (("2", "the tracks are 0 to 1"), ("-1", "audio_track"), ("x", "audio_track")):
        answer = await client.post("/transcribe", files=file_of(film), params={"audio_track": track})
        assert answer.status_code == 400
        assert fault in answer.json()["detail"]
