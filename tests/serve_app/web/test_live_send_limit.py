import asyncio

from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app
from serve_app.web.live.send_limit import MAX_LEAD_S, MAX_MESSAGES, SendLimit

PYTHON = "Python/3.11 websockets/17.4"
LIBRARY_LIMIT = 16


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def limited(user_agent=PYTHON):
    clock = Clock()
    return SendLimit(user_agent, clock), clock


def feed(limit, clock, speed, seconds, chunk_s=0.04):
    for _ in range(round(seconds * speed / chunk_s)):
        clock.now_s += chunk_s / speed
        limit.received(chunk_s)


def tell(limit, messages=MAX_MESSAGES):
    for _ in range(messages):
        limit.sent()


async def test_a_microphone_is_never_held_back():
    limit, clock = limited()
    for _ in range(10):
        feed(limit, clock, 1.0, 10)
        tell(limit)
        assert not limit.holds


async def test_whoever_rushes_gets_a_few_messages():
    limit, clock = limited()
    feed(limit, clock, 2.0, 10)
    assert not limit.holds
    tell(limit)
    assert limit.holds
    feed(limit, clock, 2.0, 100)
    assert limit.holds


async def test_what_was_said_before_the_rush_was_noticed_counts():
    limit, clock = limited()
    num_messages = 0
    for _ in range(100):
        feed(limit, clock, 2.0, 0.25)
        if not limit.holds:
            limit.sent()
            num_messages += 1
    assert num_messages == MAX_MESSAGES


async def test_other_libraries_are_not_held_back():
    limit, clock = limited("Mozilla/5.0")
    feed(limit, clock, 20.0, 10)
    tell(limit)
    assert not limit.holds


async def test_a_pause_a_flush_and_the_end_release():
    for release in ("pause", "flush", "end"):
        limit, clock = limited()
        feed(limit, clock, 2.0, 10)
        tell(limit)
        if release == "pause":
            clock.now_s += MAX_LEAD_S
        elif release == "flush":
            limit.flushed()
        else:
            limit.release()
        assert not limit.holds


async def test_a_hiccup_does_not_release():
    limit, clock = limited()
    feed(limit, clock, 2.0, 10)
    tell(limit)
    clock.now_s += 1.0
    assert limit.holds


async def test_who_has_caught_up_with_the_microphone_is_told_again():
    limit, clock = limited()
    feed(limit, clock, 20.0, 2)
    tell(limit)
    assert limit.holds
    feed(limit, clock, 1.0, 10)
    assert not limit.holds


async def test_the_end_wakes_whoever_waits():
    limit, clock = limited()
    feed(limit, clock, 2.0, 10)
    tell(limit)
    waiting = asyncio.create_task(limit.until_free())
    await asyncio.sleep(0)
    limit.release()
    await asyncio.wait_for(waiting, 60)


async def test_a_client_that_reads_last_finds_no_more_than_its_library_takes():
    service = FakeService()
    app = create_app(service, FakeSettings())
    async with AsgiSocket(app, headers=[(b"user-agent", PYTHON.encode())]) as socket:
        socket.say({"type": "start_session", "session_id": "s1"})
        for _ in range(600):
            socket.say(bytes(32_000))
        while socket.num_untaken:
            await asyncio.sleep(0.001)
        assert socket.num_unheard <= LIBRARY_LIMIT
        socket.say({"type": "flush"})
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("close")
    assert service.sessions[0].num_samples == 600 * 16_000
    assert [message["type"] for message in messages[-3:-1]] == ["final_transcript", "session_ended"]
