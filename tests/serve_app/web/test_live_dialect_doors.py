"""The live doors beside the native one, through the shell: audio in, their own messages out."""

import asyncio
import time

import numpy as np
import pytest
from starlette.applications import Starlette

from fakes.asgi_socket import AsgiSocket, kinds
from fakes.encoded_audio import encoded
from fakes.fake_service import FakeService, FakeSettings
from serve_app.core.errors import QueueFull
from serve_app.telemetry.metrics import no_metrics
from serve_app.web.door import Door
from serve_app.web.door_table import BROWSER, DEEPGRAM, NATIVE, routes_of
from serve_app.web.live import shell
from serve_app.web.live.shell import MAX_REFUSALS

SECOND = bytes(32_000)


def app_of(service, **changes):
    door = Door(service, FakeSettings(**changes), no_metrics())
    return Starlette(routes=routes_of(door, [NATIVE, BROWSER, DEEPGRAM]))


# /ws, interim and final


async def test_ws_with_start_speaks_interim_and_final_on_the_wall_clock():
    service, before_s = FakeService(), time.time()
    async with AsgiSocket(app_of(service), "/ws") as socket:
        socket.say({"event": "start", "language": "pt"})
        assert await socket.heard() == {
            "type": "status",
            "backpressure": "normal",
            "cooldown_ms": 300,
            "tail_s": 8.0,
            "interim_paused": False,
        }
        socket.say(SECOND)
        interim = await socket.heard()
        assert (interim["type"], interim["text"], interim["stable_chars"]) == ("interim", "1 halves", 2)
        assert before_s - 1.1 < interim["t0"] < time.time()
        assert interim["t1"] - interim["t0"] == pytest.approx(0.5, abs=0.002)
        socket.say({"event": "stop"})
        messages = await socket.heard_until("close")
    assert kinds(messages) == ["interim", "final", "close"]
    assert messages[1]["conn"].startswith("conn_")
    assert messages[-1] == {"close": 1000}
    assert service.sessions[0].options.language == "pt"


async def test_the_rate_of_interims_can_be_changed_while_it_runs():
    service = FakeService()
    async with AsgiSocket(app_of(service), "/ws") as socket:
        socket.say({"event": "start"})
        await socket.heard()
        socket.say({"event": "set", "interimRate": 4})
        socket.say(b"\0\0")
        socket.say({"event": "stop"})
        await socket.heard_until("close")
    assert service.sessions[0].options.partial_interval_ms == 250


async def test_ws_takes_audio_without_start_where_it_is_told_so():
    service = FakeService()
    async with AsgiSocket(app_of(service, ws_protocol="interim_final"), "/ws") as socket:
        socket.say(SECOND)
        socket.say({"event": "stop"})
        messages = await socket.heard_until("close")
    assert "final" in kinds(messages)
    assert service.sessions[0].num_samples == 16_000


async def test_nonsense_on_ws_is_refused_in_its_own_shape_and_start_still_works():
    async with AsgiSocket(app_of(FakeService()), "/ws") as socket:
        socket.say("nonsense")
        error = await socket.heard()
        assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
        socket.say({"event": "start", "language": "klingon"})
        assert "klingon" in (await socket.heard())["message"]
        socket.say({"event": "start", "language": "de"})
        assert (await socket.heard())["type"] == "status"


# containers, /asr and /ws with audio first


@pytest.mark.parametrize("container", ["webm", "ogg"])
@pytest.mark.parametrize(("path", "kind"), [("/asr", "update"), ("/ws", "transcript_update")])
async def test_a_browser_recording_becomes_updates(path, kind, container):
    service, audio = FakeService(), encoded(container)
    async with AsgiSocket(app_of(service), path, query="language=en") as socket:
        if path == "/asr":
            assert await socket.heard() == {"type": "config", "useAudioWorklet": False, "mode": "full"}
        for start in range(0, len(audio), 1_500):
            socket.say(audio[start : start + 1_500])
        socket.say(b"")
        messages = await socket.heard_until("close")
    assert kinds(messages)[0] == kind
    assert messages[-3]["lines"][-1]["text"].startswith("Olá, mundo.")
    assert messages[-2:] == [{"type": "ready_to_stop"}, {"close": 1000}]
    assert abs(service.sessions[0].num_samples - 4 * 16_000) < 1_600


@pytest.mark.parametrize("size", [1, 15, 16, 640])
async def test_bytes_of_no_container_are_pcm16(size):
    audio = np.random.default_rng(0).integers(-900, 900, 400, np.int16).tobytes()
    service = FakeService()
    async with AsgiSocket(app_of(service), "/asr") as socket:
        for start in range(0, len(audio), size):
            socket.say(audio[start : start + size])
        socket.say(b"")
        await socket.heard_until("close")
    assert service.sessions[0].audio.tobytes() == audio


async def test_a_short_recording_of_samples_is_not_lost_in_sniffing():
    service = FakeService()
    async with AsgiSocket(app_of(service), "/asr") as socket:
        socket.say(b"\1\0\2\0")
        socket.say(b"")
        await socket.heard_until("close")
    assert service.sessions[0].audio.tolist() == [1, 2]


@pytest.mark.parametrize("path", ["/asr", "/ws", "/ws/stream", "/v1/listen"])
async def test_a_recorder_may_begin_with_an_empty_frame(path, monkeypatch):
    monkeypatch.setattr(shell, "MORE_S", 0.01)
    service, audio = FakeService(), encoded("webm")
    async with AsgiSocket(app_of(service), path) as socket:
        socket.say(b"")
        for start in range(0, len(audio), 4_000):
            socket.say(audio[start : start + 4_000])
        if path == "/ws/stream":
            socket.say(b"")
            socket.say({"type": "end_session"})
        else:
            socket.say(b"")
        messages = await socket.heard_until("close")
    assert messages[-1] == {"close": 1000}
    assert abs(service.sessions[0].num_samples - 4 * 16_000) < 1_600


async def test_an_empty_frame_in_the_middle_of_a_stream_says_nothing():
    service, audio = FakeService(), encoded("ogg")
    async with AsgiSocket(app_of(service), "/ws/stream") as socket:
        for start in range(0, len(audio), 4_000):
            socket.say(audio[start : start + 4_000])
            socket.say(b"")
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert "error" not in kinds(messages)
    assert abs(service.sessions[0].num_samples - 4 * 16_000) < 1_600


@pytest.mark.parametrize("path", ["/asr", "/ws"])
async def test_an_empty_frame_alone_is_the_end(path, monkeypatch):
    monkeypatch.setattr(shell, "MORE_S", 0.01)
    async with AsgiSocket(app_of(FakeService()), path) as socket:
        socket.say(b"")
        messages = await socket.heard_until("close")
    assert messages[-1] == {"close": 1000}


async def test_parameters_that_make_no_sense_close_asr_with_4400():
    async with AsgiSocket(app_of(FakeService()), "/asr", query="mode=sideways") as socket:
        messages = await socket.heard_until("close")
    assert "sideways" in messages[1]["error"]
    assert messages[-1] == {"close": 4400}


async def test_a_full_service_is_told_once_though_audio_goes_on():
    service = FakeService(refuse_with=QueueFull("Queue full: 20/20"))
    async with AsgiSocket(app_of(service), "/asr") as socket:
        for _ in range(5):
            socket.say(SECOND)
        messages = await socket.heard_until("close")
    assert [message["error"] for message in messages if "error" in message] == ["Queue full: 20/20"]
    assert messages[-1] == {"close": 1013}


async def test_a_session_that_audio_would_open_is_not_tried_again():
    app = app_of(FakeService())
    async with AsgiSocket(app, "/ws", query="session_id=s1") as first:
        first.say(SECOND)
        await first.heard()
        async with AsgiSocket(app, "/ws", query="session_id=s1") as second:
            second.say(SECOND)
            second.say(SECOND)
            messages = await second.heard_until("close")
    assert len(messages) == 2
    assert messages[-1] == {"close": 1008}


# /ws/stream


@pytest.mark.parametrize("path", ["/ws/stream", "/api/ws/stream"])
async def test_a_stream_says_what_the_native_door_says(path):
    service, audio = FakeService(), encoded("ogg")
    async with AsgiSocket(app_of(service), path, query="language=pt&session_id=s1") as socket:
        assert await socket.heard() == {"type": "session_started", "session_id": "s1"}
        assert await socket.heard() == {"type": "ping"}
        for start in range(0, len(audio), 4_000):
            socket.say(audio[start : start + 4_000])
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert kinds(messages)[-3:] == ["final_transcript", "session_ended", "close"]
    assert messages[-2]["reason"] == "completed"
    assert abs(messages[-2]["total_audio_ms"] - 4_000) < 100


async def test_a_stream_pings():
    async with AsgiSocket(app_of(FakeService(), heartbeat_s=0.02), "/ws/stream") as socket:
        heard = [await socket.heard() for _ in range(5)]
    assert kinds(heard)[1:] == ["ping"] * 4


async def test_damage_is_told_and_what_is_around_it_kept():
    service, audio = FakeService(), bytearray(encoded("mp3"))
    audio[30_000:31_500] = np.random.default_rng(1).bytes(1_500)
    async with AsgiSocket(app_of(service), "/ws/stream") as socket:
        socket.say(bytes(audio))
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert "error" in kinds(messages)
    assert messages[-2]["reason"] == "completed"
    assert service.sessions[0].num_samples > 3 * 16_000


async def test_a_container_that_breaks_off_with_an_error_keeps_what_came_before_it():
    service, audio = FakeService(), encoded("ogg")
    async with AsgiSocket(app_of(service, max_session_s=2.0), "/ws/stream") as socket:
        socket.say(audio)
        messages = await socket.heard_until("close")
    assert "error" in kinds(messages)
    assert "final_transcript" in kinds(messages)
    assert messages[-2]["reason"] == "error"
    assert messages[-1] == {"close": 1009}
    assert service.sessions[0].num_samples > 16_000


async def test_no_container_at_all_is_an_error_and_an_end():
    service = FakeService()
    async with AsgiSocket(app_of(service), "/ws/stream") as socket:
        socket.say(b"this is no audio, whatever it is")
        messages = await socket.heard_until("close")
    assert kinds(messages)[-3:] == ["error", "session_ended", "close"]
    assert messages[-1] == {"close": 1003}


async def test_silence_ends_a_stream_with_its_decoded_audio():
    service, audio = FakeService(), encoded("ogg")
    async with AsgiSocket(app_of(service, idle_timeout_s=1.0), "/ws/stream") as socket:
        socket.say(audio)
        messages = await socket.heard_until("close")
    assert "final_transcript" in kinds(messages)
    assert messages[-2]["reason"] == "timeout"


async def test_a_ticket_in_the_address_reaches_the_service():
    service = FakeService()
    async with AsgiSocket(app_of(service), "/ws/stream", query="session_id=s1&resume=abc") as socket:
        await socket.heard()
    assert service.tickets == ["abc"]


# any of them


async def test_endless_errors_close_every_door():
    for path in ("/ws", "/asr", "/ws/stream"):
        async with AsgiSocket(app_of(FakeService()), path) as socket:
            for _ in range(MAX_REFUSALS + 10):
                socket.say("nonsense")
            assert (await socket.heard_until("close"))[-1] == {"close": 1008}


async def test_a_client_that_goes_in_the_middle_of_a_container_leaves_nothing_behind():
    service, audio = FakeService(), encoded("webm")
    async with AsgiSocket(app_of(service), "/ws/stream", query="session_id=s1") as socket:
        socket.say(audio[:5_000])
        await socket.heard()
        socket.disconnect(1001)
        await asyncio.wait_for(socket.task, 60)
    assert service.closed == ["s1"]
