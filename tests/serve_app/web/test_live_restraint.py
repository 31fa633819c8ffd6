import asyncio

from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings

from serve_app.web.app import create_app
from serve_app.web.live.restraint import MAX_LEAD_S, MAX_MESSAGES, Restraint

PYTHON = "Python/3.11 websockets/17.4"
LIBRARY_LIMIT = 16


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def restrained(user_agent=PYTHON):
    clock = Clock()
    return Restraint(user_agent, clock), clock


def feed(restraint, clock, speed, seconds, chunk_s=0.04):
    for _ in range(round(seconds * speed / chunk_s)):
        clock.now_s += chunk_s / speed
        restraint.heard(chunk_s)


def tell(restraint, messages=MAX_MESSAGES):
    for _ in range(messages):
        restraint.sent()


async def test_a_microphone_is_never_held_back():
    restraint, clock = restrained()
    for _ in range(10):
        feed(restraint, clock, 1.0, 10)
        tell(restraint)
        assert not restraint.holds


async def test_whoever_rushes_gets_a_few_messages():
    restraint, clock = restrained()
    feed(restraint, clock, 2.0, 10)
    assert not restraint.holds
    tell(restraint)
    assert restraint.holds
    feed(restraint, clock, 2.0, 100)
    assert restraint.holds


async def test_what_was_said_before_the_rush_was_noticed_counts():
    restraint, clock = restrained()
    num_messages = 0
    for _ in range(100):
        feed(restraint, clock, 2.0, 0.25)
        if not restraint.holds:
            restraint.sent()
            num_messages += 1
    assert num_messages == MAX_MESSAGES


async def test_other_libraries_are_not_held_back():
    restraint, clock = restrained("Mozilla/5.0")
    feed(restraint, clock, 20.0, 10)
    tell(restraint)
    assert not restraint.holds


async def test_a_pause_a_flush_and_the_end_release():
    for release in ("pause", "flush", "end"):
        restraint, clock = restrained()
        feed(restraint, clock, 2.0, 10)
        tell(restraint)
        if release == "pause":
            clock.now_s += MAX_LEAD_S
        elif release == "flush":
            restraint.flushed()
        else:
            restraint.release()
        assert not restraint.holds


async def test_a_hiccup_does_not_release():
    restraint, clock = restrained()
    feed(restraint, clock, 2.0, 10)
    tell(restraint)
    clock.now_s += 1.0
    assert restraint.holds


async def test_who_has_caught_up_with_the_microphone_is_told_again():
    restraint, clock = restrained()
    feed(restraint, clock, 20.0, 2)
    tell(restraint)
    assert restraint.holds
    feed(restraint, clock, 1.0, 10)
    assert not restraint.holds


async def test_the_end_wakes_whoever_waits():
    restraint, clock = restrained()
    feed(restraint, clock, 2.0, 10)
    tell(restraint)
    waiting = asyncio.create_task(restraint.until_free())
    await asyncio.sleep(0)
    restraint.release()
    await asyncio.wait_for(waiting, 60)


async def test_a_client_that_reads_last_finds_no_more_than_its_library_takes():
    service = FakeService(coalesce=True)
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
