import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from serve_app.core.errors import InferenceError, QueueFull
from serve_app.core.events import EndReason, SessionEnded, SessionError
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import create_app

SECOND = bytes(32_000)


def app_of(service, **changes):
    return create_app(service, FakeSettings(**changes))


def kinds(messages):
    return [message.get("state") or message.get("type") or "close" for message in messages]


async def test_a_session_from_start_to_end():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        assert await socket.start(lang_code="pt") == {"type": "session_started", "session_id": "s1"}
        socket.say(SECOND)
        socket.say({"type": "flush"})
        socket.say(SECOND)
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert kinds(messages) == [
        "speech_start",
        "partial_transcript",
        "partial_transcript",
        "speech_end",
        "final_transcript",
        "speech_start",
        "partial_transcript",
        "partial_transcript",
        "speech_end",
        "final_transcript",
        "session_ended",
        "close",
    ]
    assert [word["word"] for word in messages[4]["words"]] == ["Olá", "mundo"]
    assert messages[-2] == {
        "type": "session_ended",
        "session_id": "s1",
        "reason": "completed",
        "total_audio_ms": 2000.0,
        "total_segments": 2,
    }
    assert messages[-1] == {"close": 1000}
    assert service.sessions[0].options.language == "pt"
    assert service.closed == ["s1"]


async def test_the_session_gets_the_defaults_and_the_choices():
    service = FakeService()
    changes = {
        "language": "de",
        "partial_interval_ms": 400,
        "max_partial_window_s": 6.5,
        "initial_prompt": "p",
    }
    async with AsgiSocket(app_of(service, **changes)) as socket:
        await socket.start(vad_threshold=0.7, partial_results=False)
    options = service.sessions[0].options
    assert (options.language, options.partial_interval_ms, options.max_partial_window_ms) == ("de", 400, 6500)
    assert (options.prompt, options.partials, options.endpointing.threshold) == ("p", False, 0.7)


async def test_the_server_makes_an_id_where_the_client_has_none():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        socket.say({"type": "start_session"})
        started = await socket.heard()
    assert started["session_id"] == service.sessions[0].session_id != ""


@pytest.mark.parametrize(
    ("config", "frame", "samples"),
    [
        ({}, np.array([1, -2, 3], "<i2").tobytes(), [1, -2, 3]),
        ({"encoding": "float32"}, np.array([0.5, -0.5], "<f4").tobytes(), [16384, -16384]),
        ({"encoding": "mulaw"}, b"\xff\x7f\x00", [0, 0, -32124]),
    ],
)
async def test_frames_are_decoded_as_the_config_says(config, frame, samples):
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start(**config)
        socket.say(frame)
        socket.say({"type": "end_session"})
        await socket.heard_until("close")
    assert service.sessions[0].audio.tolist() == samples


@pytest.mark.parametrize("rate_hz", [44_100.0, 48_000, 96_000, 192_000])
async def test_audio_at_any_rate_arrives_whole_at_16_khz(rate_hz):
    service = FakeService()
    async with AsgiSocket(app_of(service, max_frame_bytes=400_000)) as socket:
        assert (await socket.start(sample_rate=rate_hz))["type"] == "session_started"
        socket.say(bytes(2 * int(rate_hz)))
        socket.say({"type": "end_session"})
        await socket.heard_until("close")
    assert abs(service.sessions[0].num_samples - 16_000) <= 1


async def test_cancel_ends_at_once():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        socket.say(SECOND)
        socket.say({"type": "cancel"})
        messages = await socket.heard_until("close")
    assert messages[-2]["reason"] == "cancelled"
    assert messages[-1] == {"close": 1000}


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("not json", "malformed JSON"),
        ({"type": "sing"}, "Invalid value 'sing'"),
        ({"type": "flush"}, "start_session"),
        ({"type": "end_session"}, "start_session"),
        (b"\0\0", "audio before start_session"),
        ({"type": "start_session", "config": {"sample_rate": 7_999}}, ">= 8000"),
        ({"type": "start_session", "config": {"sample_rate": 192_001}}, "<= 192000"),
        ({"type": "start_session", "config": {"lang_code": "klingon"}}, "klingon"),
    ],
)
async def test_what_is_wrong_before_the_start_is_said_and_the_start_still_works(frame, complaint):
    async with AsgiSocket(app_of(FakeService())) as socket:
        socket.say(frame)
        error = await socket.heard()
        assert (error["type"], error["code"]) == ("error", "INVALID_MESSAGE")
        assert complaint in error["message"]
        assert (await socket.start())["type"] == "session_started"


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("{", "malformed JSON"),
        ({"type": "sing"}, "Invalid value 'sing'"),
        ({"type": "start_session"}, "already started"),
        (b"\0\0\0", "3 bytes"),
        ('{"type":"flush","x":"' + "y" * 70_000 + '"}', "limit"),
    ],
)
async def test_what_is_wrong_in_a_session_is_said_and_the_session_goes_on(frame, complaint):
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        socket.say(frame)
        error = await socket.heard()
        assert (error["type"], error["code"], error["session_id"]) == ("error", "INVALID_MESSAGE", "s1")
        assert complaint in error["message"]
        socket.say(SECOND)
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert messages[-2]["reason"] == "completed"
    assert service.sessions[0].num_samples == 16_000


async def test_a_frame_of_odd_length_does_not_shift_the_samples_behind_it():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        socket.say(b"\x01\x02\x03")
        socket.say(np.array([7, 8], "<i2").tobytes())
        socket.say({"type": "end_session"})
        await socket.heard_until("close")
    assert service.sessions[0].audio.tolist() == [7, 8]


async def test_an_oversized_frame_ends_the_session_with_what_was_spoken():
    service = FakeService()
    async with AsgiSocket(app_of(service, max_frame_bytes=32_000)) as socket:
        await socket.start()
        socket.say(SECOND)
        socket.say(bytes(32_002))
        messages = await socket.heard_until("close")
    assert "error" in kinds(messages)
    assert "final_transcript" in kinds(messages)
    assert (messages[-2]["type"], messages[-2]["reason"]) == ("session_ended", "error")
    assert messages[-1] == {"close": 1009}


async def test_an_oversized_frame_before_the_start_closes():
    async with AsgiSocket(app_of(FakeService(), max_frame_bytes=10)) as socket:
        socket.say(bytes(12))
        assert kinds(await socket.heard_until("close")) == ["error", "close"]


async def test_a_second_session_of_one_id_is_refused_and_does_not_touch_the_first():
    service = FakeService()
    app = app_of(service)
    async with AsgiSocket(app) as first:
        await first.start()
        async with AsgiSocket(app) as second:
            refused = await second.start()
            assert (refused["code"], refused["session_id"]) == ("SESSION_EXISTS", "s1")
            second.say({"type": "start_session", "session_id": "s2"})
            assert (await second.heard())["session_id"] == "s2"
        assert service.closed == ["s2"]
        assert "s1" in service.live


@pytest.mark.parametrize(
    "use", [FakeService(max_sessions=0), FakeService(refuse_with=QueueFull("Queue full: 20/20"))]
)
async def test_a_full_service_says_so_and_closes_with_1013(use):
    async with AsgiSocket(app_of(use)) as socket:
        error = await socket.start()
        assert error["code"] in ("MAX_SESSIONS_REACHED", "QUEUE_FULL")
        assert error["retryable"] is True
        assert await socket.heard() == {"close": 1013}
    assert use.closed == []


async def test_events_flow_while_audio_comes():
    async with AsgiSocket(app_of(FakeService())) as socket:
        await socket.start()
        for _ in range(3):
            socket.say(SECOND)
            await socket.heard_until("partial_transcript")


async def test_audio_behind_the_end_is_refused_and_changes_nothing():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        session = service.sessions[0]
        end, session.end = session.end, lambda: None
        socket.say({"type": "end_session"})
        socket.say({"type": "end_session"})
        socket.say(SECOND)
        assert "after end_session" in (await socket.heard())["message"]
        end()
        messages = await socket.heard_until("close")
    assert kinds(messages) == ["session_ended", "close"]
    assert session.num_samples == 0


async def test_errors_of_the_session_are_told_and_it_goes_on():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        service.sessions[0].say(SessionError("INFERENCE_ERROR", "the model failed", retryable=True))
        error = await socket.heard()
        assert (error["code"], error["retryable"]) == ("INFERENCE_ERROR", True)
        socket.say({"type": "end_session"})
        assert (await socket.heard_until("close"))[-1] == {"close": 1000}


async def test_a_push_that_fails_is_told_and_the_session_goes_on():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        session = service.sessions[0]
        push = session.push

        async def fail(samples):
            session.push = push
            raise InferenceError("the detector failed")

        session.push = fail
        socket.say(SECOND)
        assert (await socket.heard())["code"] == "INFERENCE_ERROR"
        socket.say(SECOND)
        socket.say({"type": "end_session"})
        assert (await socket.heard_until("close"))[-2]["total_audio_ms"] == 1000.0


async def test_an_unexpected_failure_says_nothing_of_its_inside():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        service.sessions[0].fail_with = RuntimeError("secret path /etc/passwd")
        socket.say(SECOND)
        error, closed = await socket.heard(), await socket.heard()
    assert (error["code"], error["message"]) == ("INTERNAL_ERROR", "internal error")
    assert closed == {"close": 1011}
    assert service.closed == ["s1"]


async def test_a_session_that_fails_by_itself_closes_with_1011():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        service.sessions[0].say(SessionEnded(EndReason.ERROR, 0, 0))
        assert kinds(await socket.heard_until("close")) == ["session_ended", "close"]


async def test_open_connections_are_counted():
    local = LocalInstruments()
    app = create_app(FakeService(), FakeSettings(), Metrics(local))
    async with AsgiSocket(app):
        async with AsgiSocket(app):
            assert local.value("stt_active_connections") == 2
        assert local.value("stt_active_connections") == 1
    assert local.value("stt_active_connections") == 0


def cut(data, sizes):
    frames, at = [], 0
    for size in sizes:
        frames.append(data[at : at + size])
        at += size
    return [*frames, data[at:]]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9_000).map(lambda n: 2 * n), max_size=12))
def test_however_the_audio_is_cut_the_events_are_the_same(sizes):
    audio = np.random.default_rng(7).integers(-3000, 3000, 30_000, np.int16).tobytes()

    async def run(frames):
        service = FakeService()
        async with AsgiSocket(app_of(service)) as socket:
            await socket.start()
            for frame in frames:
                socket.say(frame)
            socket.say({"type": "flush"})
            socket.say({"type": "end_session"})
            return await socket.heard_until("close"), service.sessions[0].audio.tobytes()

    async def both():
        return await run(cut(audio, sizes)), await run([audio])

    in_pieces, whole = asyncio.run(both())
    assert in_pieces == whole
    assert whole[1] == audio
