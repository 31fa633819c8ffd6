"""Audio that stops coming in the middle of speech: a final all the same, and no word twice or lost then."""

import asyncio
import base64
import json

import pytest

from fakes.asgi_scope import post_scope
from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from fakes.talk import Say, speak
from fakes.talking_server import talking_speech
from serve_app.settings import Settings
from serve_app.web.app import create_app
from serve_app.web.live.timers import IdleFinal

FIRST = speak([Say(1), Say(2), Say(3, pause_ms=60)])
REST = speak([Say(4), Say(5)], lead_ms=0)
CHUNK = 1_600

BY_DEFAULT = {
    "/asr": "",
    "/ws": "",
    "/v1/realtime": "intent=transcription",
    "/v1/listen": "encoding=linear16&sample_rate=16000",
}
ASKED = {"/ws/stream": "sample_rate=16000&encoding=pcm16", "/ws/stt": ""}


class Client:
    """Says audio and hears texts in whatever shape the door has for them."""

    def __init__(self, socket, path, **config):
        self.socket, self.path = socket, path
        self.finals = {}
        if path == "/ws/stt":
            socket.say({"type": "start_session", "config": config})
        if path == "/v1/realtime":
            audio = {"format": {"type": "audio/pcm", "rate": 16_000}}
            socket.say(
                {"type": "session.update", "session": {"type": "transcription", "audio": {"input": audio}}}
            )

    def say(self, samples):
        for start in range(0, len(samples), CHUNK):
            data = samples[start : start + CHUNK].tobytes()
            if self.path == "/v1/realtime":
                audio = base64.b64encode(data).decode()
                self.socket.say({"type": "input_audio_buffer.append", "audio": audio})
            else:
                self.socket.say(data)

    async def words(self, wanted):
        """Hears until so many words are final."""
        while len(self.text.split()) < wanted:
            self.take(await self.socket.heard())
        return self.text

    @property
    def text(self):
        return " ".join(self.finals.values())

    def take(self, message):
        match message:
            case {"lines": lines}:
                texts = [line["text"] for line in lines if line["speaker"] != -2]
                self.finals = dict(enumerate(filter(None, texts)))
            case {"type": "final_transcript" | "final", "text": text}:
                self.finals[len(self.finals)] = text
            case {"item_id": name, "transcript": text}:
                self.finals[name] = text
            case {"type": "Results", "is_final": True, "channel": {"alternatives": [{"transcript": text}]}}:
                self.finals[len(self.finals)] = text


def app_of(speech, **changes):
    return create_app(speech, FakeSettings(**{"idle_final_s": 0.1, **changes}))


@pytest.mark.parametrize("path", BY_DEFAULT)
async def test_audio_that_stops_coming_has_its_final_and_goes_on_behind_it(path):
    query = BY_DEFAULT[path]
    async with talking_speech() as speech, AsgiSocket(app_of(speech), path, query=query) as socket:
        client = Client(socket, path)
        client.say(FIRST)
        assert await client.words(3) == "w1 w2 w3"
        client.say(REST)
        assert await client.words(5) == "w1 w2 w3 w4 w5"


@pytest.mark.parametrize("path", ASKED)
async def test_a_client_that_can_flush_has_it_where_it_asks(path):
    async with talking_speech() as speech:
        query = f"{ASKED[path]}&idle_final_ms=100" if path == "/ws/stream" else ""
        async with AsgiSocket(app_of(speech, idle_final_s=0.0), path, query=query) as socket:
            client = Client(socket, path, idle_final_ms=100)
            client.say(FIRST)
            assert await client.words(3) == "w1 w2 w3"
            client.say(REST)
            assert await client.words(5) == "w1 w2 w3 w4 w5"


async def test_interim_and_final_messages_have_it_too():
    async with talking_speech() as speech, AsgiSocket(app_of(speech), "/ws") as socket:
        socket.say({"event": "start"})
        client = Client(socket, "/ws")
        client.say(FIRST)
        assert await client.words(3) == "w1 w2 w3"


async def test_a_streamed_body_that_pauses_has_its_final():
    async with talking_speech() as speech:
        first_final = asyncio.Event()
        bodies = [FIRST.tobytes(), REST.tobytes()]  # the second comes once the first has its final
        lines = []

        async def receive():
            if len(bodies) == 1:
                await first_final.wait()
            if not bodies:
                await asyncio.Event().wait()  # the client reads on
            return {"type": "http.request", "body": bodies.pop(0), "more_body": bool(bodies)}

        async def send(message):
            for line in message.get("body", b"").splitlines():
                lines.append(json.loads(line))
                if lines[-1]["type"] == "final_transcript":
                    first_final.set()

        scope = post_scope("/transcribe/stream", "audio/pcm;rate=16000")
        await asyncio.wait_for(app_of(speech)(scope, receive, send), 10)
    finals = [line["text"] for line in lines if line["type"] == "final_transcript"]
    assert finals == ["w1 w2 w3", "w4 w5"]


# whom it is for


async def flushes(path, query="", start=None, **changes):
    """How often a session is flushed while nothing comes for three times the patience."""
    service = FakeService()
    app = create_app(service, FakeSettings(**{"idle_final_s": 0.05, **changes}))
    async with AsgiSocket(app, path, query=query) as socket:
        if start is not None:
            socket.say(start)
        socket.say(bytes(32_000))
        await asyncio.sleep(0.15)
        return service.sessions[0].num_flushes


@pytest.mark.parametrize(
    ("path", "query", "start", "changes"),
    [
        ("/ws/stt", "", {"type": "start_session"}, {}),
        ("/ws/stream", "sample_rate=16000", None, {}),
        ("/v1/listen", "encoding=linear16&sample_rate=16000&endpointing=false", None, {}),
        ("/asr", "sample_rate=16000&vad_enabled=false", None, {}),
        ("/asr", "sample_rate=16000&idle_final_ms=0", None, {}),
        ("/asr", "sample_rate=16000", None, {"idle_final_s": 0.0}),
    ],
)
async def test_who_can_flush_or_does_not_want_it_has_none(path, query, start, changes):
    assert await flushes(path, query, start, **changes) == 0


async def test_one_pause_is_one_flush():
    service = FakeService()
    app = create_app(service, FakeSettings(idle_final_s=0.02))
    async with AsgiSocket(app, "/asr", query="sample_rate=16000") as socket:
        for number in range(1, 4):
            socket.say(bytes(32_000))
            while not (service.sessions and service.sessions[0].num_flushes >= number):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.06)
            assert service.sessions[0].num_flushes == number


def test_it_is_two_seconds_unless_set():
    assert Settings().idle_final_s == 2


async def test_the_wait_of_a_full_buffer_is_no_pause_of_the_client():
    flushed = []
    idle_final = IdleFinal(0.01, lambda: flushed.append(True))
    running = asyncio.create_task(idle_final.run())
    idle_final.taking()
    await asyncio.sleep(0.05)
    assert flushed == []
    idle_final.taken()
    while not flushed:
        await asyncio.sleep(0.001)
    running.cancel()
