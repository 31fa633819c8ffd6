"""What bounds a native session: silence, length, buffers, stalled clients, endless errors."""

import asyncio

import pytest

from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from serve_app.core.events import EndReason, SessionEnded
from serve_app.web.app import create_app
from serve_app.web.live import shell
from serve_app.web.live.shell import MAX_REFUSALS

SECOND = bytes(32_000)


def app_of(service, **changes):
    return create_app(service, FakeSettings(**changes))


def kinds(messages):
    return [message.get("state") or message.get("type") or "close" for message in messages]


async def test_a_client_that_goes_frees_its_session():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        socket.disconnect(1001)
        await asyncio.wait_for(socket.task, 60)
    assert service.closed == ["s1"]
    assert service.live == {}


async def test_silence_ends_the_session_with_timeout_and_keeps_what_was_spoken():
    service = FakeService()
    async with AsgiSocket(app_of(service, idle_timeout_s=0.2)) as socket:
        await socket.start()
        socket.say(SECOND)
        messages = await socket.heard_until("close")
    assert "final_transcript" in kinds(messages)
    assert (messages[-2]["type"], messages[-2]["reason"]) == ("session_ended", "timeout")


async def test_no_start_within_the_idle_limit_closes():
    async with AsgiSocket(app_of(FakeService(), idle_timeout_s=0.05)) as socket:
        messages = await socket.heard_until("close")
    assert kinds(messages) == ["error", "close"]
    assert messages[-1] == {"close": 1008}


async def test_the_longest_session_ends_with_timeout_though_audio_comes():
    async with AsgiSocket(app_of(FakeService(), max_session_s=0.3)) as socket:
        await socket.start()
        for _ in range(40):
            socket.say(bytes(320))
            await asyncio.sleep(0.01)
        messages = await socket.heard_until("close")
    assert messages[-2]["reason"] == "timeout"


@pytest.mark.parametrize(("num_frames", "frame_bytes"), [(10, 3200), (100, 320)])
async def test_a_full_buffer_holds_the_reader_back_and_is_no_idleness(num_frames, frame_bytes):
    service = FakeService(on_open=lambda session: session.room.clear())
    async with AsgiSocket(app_of(service, idle_timeout_s=1.0)) as socket:
        await socket.start()
        for _ in range(num_frames):
            socket.say(bytes(frame_bytes))
            await asyncio.sleep(0)  # small ones are not gathered for longer than that
        await asyncio.sleep(1.2)  # longer than the limit
        assert num_frames - socket.num_untaken <= 5
        service.sessions[0].room.set()
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert messages[-2] == {
        "type": "session_ended",
        "session_id": "s1",
        "reason": "completed",
        "total_audio_ms": 1000.0,
        "total_segments": 1,
    }


async def test_a_client_that_reads_nothing_can_still_send_and_gets_every_final():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        socket.stall()
        for _ in range(20):
            socket.say(SECOND)
            socket.say(b"\0")
        socket.say({"type": "flush"})
        while socket.num_untaken:
            await asyncio.sleep(0.001)
        while service.sessions[0].num_samples < 20 * 16_000:
            await asyncio.sleep(0.001)
        socket.say({"type": "end_session"})
        socket.read_on()
        messages = await socket.heard_until("close")
    assert kinds(messages).count("final_transcript") == 1
    assert kinds(messages).count("error") == 20
    assert kinds(messages)[-2:] == ["session_ended", "close"]


async def test_a_client_that_never_reads_is_given_up(monkeypatch):
    monkeypatch.setattr(shell, "LAST_FRAMES_S", 0.05)
    service = FakeService()
    async with AsgiSocket(app_of(service, idle_timeout_s=0.2)) as socket:
        await socket.start()
        socket.stall()
        socket.say(SECOND)
        socket.say({"type": "end_session"})
        await asyncio.wait_for(socket.task, 60)
        assert service.closed == ["s1"]
        assert service.live == {}


async def test_waiting_for_finals_is_no_idleness():
    service = FakeService()
    async with AsgiSocket(app_of(service, idle_timeout_s=0.2)) as socket:
        await socket.start()
        session = service.sessions[0]
        session.end = lambda: None
        socket.say({"type": "end_session"})
        await asyncio.sleep(0.5)
        assert session.cancelled is None
        session.say(SessionEnded(EndReason.COMPLETED, 0, 0))
        messages = await socket.heard_until("close")
    assert messages[-2]["reason"] == "completed"


async def test_endless_errors_end_the_session():
    service = FakeService()
    async with AsgiSocket(app_of(service)) as socket:
        await socket.start()
        socket.say(SECOND)
        for _ in range(MAX_REFUSALS + 10):
            socket.say("nonsense")
        messages = await socket.heard_until("close")
    assert kinds(messages).count("error") == MAX_REFUSALS
    assert "final_transcript" in kinds(messages)
    assert messages[-2]["reason"] == "error"
    assert messages[-1] == {"close": 1008}


async def test_endless_errors_before_the_start_close():
    async with AsgiSocket(app_of(FakeService())) as socket:
        for _ in range(MAX_REFUSALS + 10):
            socket.say("nonsense")
        messages = await socket.heard_until("close")
    assert messages[-1] == {"close": 1008}
