"""Speakers through the live doors: where they were asked for, a channel each, and where nobody knows them."""

import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from fakes.asgi_socket import AsgiSocket
from fakes.encoded_audio import encoded
from fakes.fake_service import FakeService, FakeSettings
from fakes.spoken_events import ANSWER, GREETING, revision
from serve_app.core.errors import SpeakersUnavailable
from serve_app.core.events import (
    Acknowledged,
    EndReason,
    SessionEnded,
    SessionStarted,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.speakers.turns import SpeakerMode
from serve_app.web.app import create_app
from serve_app.web.live.channels import ChannelSpeakers

SECOND = bytes(32_000)
STEREO = np.arange(32_000, dtype="<i2").reshape(-1, 2)
BY_CHANNEL = {"diarization": True, "diarization_backend": "channel", "channels": 2}
MISSING = "speakers are not told apart here: make speakers"


def app_of(service, **changes):
    return create_app(service, FakeSettings(**changes))


async def native(service, config, *frames, **changes):
    async with AsgiSocket(app_of(service, **changes)) as socket:
        await socket.start(**config)
        for frame in frames:
            socket.say(frame)
        socket.say({"type": "end_session"})
        return await socket.heard_until("close")


def finals(messages):
    return [message for message in messages if message.get("type") == "final_transcript"]


async def test_finals_name_speakers_where_the_session_asked_for_them():
    service = FakeService()
    (final,) = finals(await native(service, {"diarization": True, "max_speakers": 3}, SECOND))
    assert final["speaker"] is None
    assert [word["speaker"] for word in final["words"]] == [None, None]
    options = service.sessions[0].options
    assert (options.speakers, options.speaker_counts.most) == (SpeakerMode.VOICE, 3)


async def test_finals_name_nobody_where_nobody_asked():
    service = FakeService()
    (final,) = finals(await native(service, {}, SECOND))
    assert "speaker" not in final
    assert service.sessions[0].options.speakers is SpeakerMode.OFF


async def test_the_servers_default_counts_where_the_client_says_nothing():
    service = FakeService()
    (final,) = finals(await native(service, {}, SECOND, diarization_enabled=True))
    assert "speaker" in final


async def test_a_revision_reaches_the_client_behind_its_final():
    service = FakeService()

    def say(session):
        session.say(GREETING)
        session.say(revision(GREETING, 1, 1, 1, 1, 1, ticket="newer"))

    service.on_open = say
    messages = await native(service, {"diarization": True})
    final, revised = (m for m in messages if m.get("segment_id") == "seg-0000")
    assert (final["speaker"], revised["speaker"], revised["ticket"]) == ("SPEAKER_01", "SPEAKER_02", "newer")
    assert revised["words"] == ["SPEAKER_02"] * 4


# one speaker a channel


async def test_each_channel_is_a_session_and_a_speaker():
    service = FakeService()
    messages = await native(service, BY_CHANNEL, STEREO[:8_000].tobytes(), STEREO[8_000:].tobytes())
    left, right = service.sessions
    assert left.audio.tolist() == STEREO[:, 0].tolist()
    assert right.audio.tolist() == STEREO[:, 1].tolist()
    assert [(m["speaker"], [w["speaker"] for w in m["words"]]) for m in finals(messages)] == [
        (label, [label, label]) for label in ("SPEAKER_01", "SPEAKER_02")
    ]
    assert len({message["segment_id"] for message in finals(messages)}) == 2
    assert {message["session_id"] for message in messages[:-1]} == {"s1"}
    (ended,) = (message for message in messages if message.get("type") == "session_ended")
    assert (ended["total_audio_ms"], ended["total_segments"]) == (1000.0, 2)
    assert service.tickets == [None, None]
    assert service.closed == ["s1", "s1-1"]


async def test_one_channel_is_one_speaker():
    service = FakeService()
    (final,) = finals(await native(service, {**BY_CHANNEL, "channels": 1}, SECOND))
    assert final["speaker"] == "SPEAKER_01"


async def test_channels_are_mixed_unless_each_is_a_speaker():
    service = FakeService()
    await native(service, {"channels": 2}, np.array([[10, 20], [30, 50]], "<i2").tobytes())
    (session,) = service.sessions
    assert session.audio.tolist() == [15, 40]


async def test_the_servers_backend_counts_where_the_client_names_none():
    service = FakeService()
    config = {"diarization": True, "channels": 2}
    messages = await native(service, config, STEREO.tobytes(), diarization_backend="channel")
    assert [message["speaker"] for message in finals(messages)] == ["SPEAKER_01", "SPEAKER_02"]


async def test_several_channels_cannot_be_resumed():
    async with AsgiSocket(app_of(FakeService())) as socket:
        socket.say({"type": "start_session", "config": BY_CHANNEL, "resume": "ticket"})
        assert "cannot be resumed" in (await socket.heard())["message"]


@pytest.mark.parametrize("path", ["/ws/stream", "/asr"])
async def test_the_channels_of_a_container_are_refused_as_speakers(path):
    query = "diarize=true&diarization_backend=channel"
    async with AsgiSocket(app_of(FakeService()), path, query=query) as socket:
        if path == "/asr":
            await socket.heard()
            socket.say(encoded("webm"))
        refusal = await socket.heard()
    assert "mixed" in (refusal.get("message") or refusal["error"])


async def test_a_container_has_no_speakers_where_only_the_server_wants_its_channels():
    service = FakeService()
    settings = {"diarization_enabled": True, "diarization_backend": "channel"}
    async with AsgiSocket(app_of(service, **settings), "/ws/stream") as socket:
        await socket.heard()
    assert [session.options.speakers for session in service.sessions] == [SpeakerMode.OFF]


async def test_channels_of_interim_and_final_messages_are_speakers_too():
    service = FakeService()
    query = "diarize=true&diarization_backend=channel&channels=2"
    async with AsgiSocket(app_of(service), "/ws", query=query) as socket:
        socket.say({"event": "start"})
        socket.say(STEREO.tobytes())
        socket.say({"event": "stop"})
        messages = await socket.heard_until("close")
    said = [message["speaker"] for message in messages if message.get("type") == "final"]
    assert said == ["SPEAKER_01", "SPEAKER_02"]


async def test_deepgrams_channels_stay_transcripts_of_their_own():
    service = FakeService()
    query = "encoding=linear16&sample_rate=16000&channels=2&multichannel=true&diarize=true"
    async with AsgiSocket(app_of(service), "/v1/listen", query=query) as socket:
        socket.say(STEREO.tobytes())
        socket.say({"type": "CloseStream"})
        messages = await socket.heard_until("close")
    results = [message["channel_index"] for message in messages if message.get("type") == "Results"]
    assert results == [[0, 2], [1, 2]]
    assert [session.options.speakers for session in service.sessions] == [SpeakerMode.VOICE] * 2


def heard(channels, *events):
    return [channels.merge(channel, event) for channel, event in events]


def test_speech_is_that_of_any_channel():
    begin, end = SpeechStarted(100), SpeechEnded(200)
    told = heard(ChannelSpeakers(2), (0, begin), (1, begin), (0, end), (1, end), (1, begin), (1, end))
    assert told == [begin, None, None, end, begin, end]


def test_one_session_begins_and_ends_and_cannot_be_resumed():
    channels = ChannelSpeakers(2)
    start = SessionStarted("s", ticket="t")
    assert heard(channels, (0, start), (1, start)) == [SessionStarted("s"), None]
    assert channels.merge(0, Acknowledged(5, "t")) is None
    told = channels.merge(1, revision(ANSWER, 1, 1, 1, 1, ticket="t"))
    assert (told.utterance_id, told.ticket) == ("seg-0001.1", "")
    ends = [SessionEnded(EndReason.ERROR, 10, 1), SessionEnded(EndReason.COMPLETED, 20, 2)]
    assert heard(channels, *enumerate(ends)) == [None, SessionEnded(EndReason.ERROR, 20, 3)]


# where nothing tells speakers apart


REFUSED = {
    "/ws/stt": ("", {"type": "start_session", "config": {"diarization": True}}),
    "/ws": ("diarize=true", {"event": "start"}),
    "/ws/stream": ("diarize=true", None),
    "/asr": ("diarize=true&sample_rate=16000", SECOND),
    "/v1/listen": ("diarize=true", None),
}


@pytest.mark.parametrize("path", REFUSED)
async def test_every_door_says_that_nothing_tells_speakers_apart(path):
    query, frame = REFUSED[path]
    service = FakeService(refuse_with=SpeakersUnavailable(MISSING))
    async with AsgiSocket(app_of(service), path, query=query) as socket:
        if path == "/asr":
            await socket.heard()
        if frame is not None:
            socket.say(frame)
        refusal = await socket.heard()
    if path == "/v1/listen":
        assert (refusal["type"], refusal["description"]) == ("Error", MISSING)
    elif path == "/asr":
        assert (refusal["status"], refusal["error"]) == ("error", MISSING)
    else:
        assert (refusal["code"], refusal["message"]) == ("INVALID_MESSAGE", MISSING)


async def test_a_backend_that_does_not_run_here_is_refused_by_name():
    config = {"diarization": True, "diarization_backend": "sortformer"}
    async with AsgiSocket(app_of(FakeService()), "/ws/stt") as socket:
        socket.say({"type": "start_session", "config": config})
        refusal = await socket.heard()
    assert refusal["code"] == "INVALID_MESSAGE"
    assert "with pyannote, not with sortformer" in refusal["message"]


async def test_openais_door_says_so_too():
    service = FakeService(refuse_with=SpeakersUnavailable(MISSING))
    async with AsgiSocket(app_of(service), "/v1/realtime", query="intent=transcription") as socket:
        await socket.heard()
        transcription = {"model": "gpt-4o-transcribe-diarize"}
        audio = {"input": {"transcription": transcription}}
        socket.say({"type": "session.update", "session": {"type": "transcription", "audio": audio}})
        await socket.heard()
        socket.say({"type": "input_audio_buffer.append", "audio": "AAAA"})
        refusal = await socket.heard()
    assert (refusal["type"], refusal["error"]["message"]) == ("error", MISSING)


# POST /transcribe/stream


def streamed(service, query, body=SECOND, **changes):
    client = TestClient(app_of(service, **changes))
    headers = {"content-type": "audio/pcm;rate=16000"}
    return client.post(f"/transcribe/stream?{query}", content=body, headers=headers)


def test_a_streamed_upload_names_speakers():
    lines = [json.loads(line) for line in streamed(FakeService(), "diarize=true").text.splitlines()]
    (final,) = finals(lines)
    assert (final["speaker"], final["words"][0]["speaker"]) == (None, None)


def test_a_streamed_upload_mixes_channels_and_says_so():
    service = FakeService()
    refused = streamed(service, "diarize=true&diarization_backend=channel")
    assert (refused.status_code, "/ws/stt" in refused.json()["detail"]) == (400, True)
    assert service.sessions == []
    streamed(service, "channels=2", STEREO[:2].tobytes())
    assert service.sessions[0].audio.tolist() == [0, 2]


def test_a_streamed_upload_is_refused_where_nothing_tells_speakers_apart():
    refused = streamed(FakeService(refuse_with=SpeakersUnavailable(MISSING)), "diarize=true")
    assert (refused.status_code, refused.json()) == (400, {"detail": MISSING})
