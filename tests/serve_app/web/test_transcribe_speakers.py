"""Who spoke, asked of an upload."""

import numpy as np
import pytest

from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService
from fakes.transcribe_client import client_of, file_of
from serve_app.core.errors import SpeakersUnavailable
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode

TWO_SECONDS = wav(chirp(2.0, 16_000), 16_000)


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
async def client(service):
    async with client_of(service) as client:
        yield client


async def test_speakers_are_asked_for_as_query_or_as_field(client, service):
    answer = await client.post("/transcribe?diarize=true&min_speakers=2", files=file_of(TWO_SECONDS))
    assert [segment["speaker"] for segment in answer.json()["segments"]] == ["SPEAKER_01", "SPEAKER_02"]
    fields = {"diarize": "true", "num_speakers": "3", "word_timestamps": "true"}
    body = (await client.post("/transcribe", data=fields, files=file_of(TWO_SECONDS))).json()
    assert (body["speakers"], body["num_speakers"]) == (["SPEAKER_01", "SPEAKER_02"], 2)
    assert {word["speaker"] for word in body["words"]} == {"SPEAKER_01", "SPEAKER_02"}
    (_, first), (_, second) = service.uploads
    assert (first.speakers, first.speaker_counts) == (SpeakerMode.VOICE, SpeakerCounts(least=2))
    assert (second.speakers, second.speaker_counts) == (SpeakerMode.VOICE, SpeakerCounts(3))


@pytest.mark.parametrize(
    ("query", "settings", "mode", "counts"),
    [
        ({}, {"diarization_enabled": True, "max_speakers": 4}, SpeakerMode.VOICE, SpeakerCounts(most=4)),
        ({"diarize": "false"}, {"diarization_enabled": True}, SpeakerMode.OFF, SpeakerCounts()),
        ({"num_speakers": "2"}, {}, SpeakerMode.OFF, SpeakerCounts()),
        ({"diarize": "true"}, {"diarization_backend": "channel"}, SpeakerMode.CHANNEL, SpeakerCounts()),
        (
            {"diarize": "true", "diarization_backend": "pyannote"},
            {"diarization_backend": "channel"},
            SpeakerMode.VOICE,
            SpeakerCounts(),
        ),
    ],
)
async def test_the_servers_choice_of_speakers_stands_unless_the_client_has_one(
    service, query, settings, mode, counts
):
    async with client_of(service, **settings) as client:
        answer = await client.post("/transcribe", params=query, files=file_of(TWO_SECONDS))
    options = service.uploads[0][1]
    assert (options.speakers, options.speaker_counts) == (mode, counts)
    assert ("speakers" in answer.json()) is (mode is not SpeakerMode.OFF)


async def test_channels_are_kept_where_they_are_speakers(client, service):
    left, right = chirp(1.0, 16_000), chirp(1.0, 16_000)[::-1]
    stereo = np.stack([left, right], axis=1)
    query = {"diarize": "true", "diarization_backend": "channel"}
    for data in (wav(stereo, 16_000), TWO_SECONDS):
        assert (await client.post("/transcribe", params=query, files=file_of(data))).status_code == 200
    assert np.array_equal(service.uploads[0][0], stereo)
    assert service.uploads[1][0].shape == (32_000, 1)


@pytest.mark.parametrize(
    "query",
    [
        {"diarize": "perhaps"},
        {"num_speakers": "0"},
        {"min_speakers": "3", "max_speakers": "2"},
        {"num_speakers": "5", "max_speakers": "2"},
        {"diarization_backend": "guess"},
    ],
)
async def test_choices_of_speakers_that_make_no_sense_are_refused_before_the_upload(client, service, query):
    answer = await client.post("/transcribe", params=query, content=unread())
    assert (answer.status_code, service.uploads) == (400, [])
    assert any(word in answer.json()["detail"] for word in ("speakers", "diariz"))


async def unread():
    raise AssertionError("the body was read")
    yield b""


async def test_a_server_without_speakers_says_so(client, service):
    service.transcribe_error = SpeakersUnavailable("speakers cannot be told apart here: make speakers")
    answer = await client.post("/transcribe?diarize=true", files=file_of(TWO_SECONDS))
    assert (answer.status_code, answer.json()) == (400, {"detail": str(service.transcribe_error)})


async def test_a_backend_that_does_not_run_here_is_refused_by_name(client, service):
    query = {"diarize": "true", "diarization_backend": "sortformer"}
    answer = await client.post("/transcribe", params=query, files=file_of(TWO_SECONDS))
    assert (answer.status_code, service.uploads) == (400, [])
    assert "with pyannote, not with sortformer" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", "SPEAKER_01: Hello there.\nSPEAKER_02: General Kenobi.\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:00,900\nSPEAKER_01: Hello there.\n"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:00.900\n<v SPEAKER_01>Hello there.\n"),
    ],
)
async def test_other_formats_name_speakers(client, name, expected):
    query = {"response_format": name, "diarize": "true"}
    answer = await client.post("/transcribe", params=query, files=file_of(TWO_SECONDS))
    assert answer.text.startswith(expected)
