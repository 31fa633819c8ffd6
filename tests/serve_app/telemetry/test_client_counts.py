"""What `/metrics` totals say is what the client of a live session was told and sent."""

import asyncio

import httpx

from fakes.asgi_socket import AsgiSocket
from fakes.encoded_audio import wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.local_metrics import LocalInstruments
from fakes.talk import Say, speak
from fakes.talking_server import talking_speech
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import create_app

AUDIO = speak([Say(number, pause_ms=800) for number in range(1, 6)])


def count(messages, kind):
    return sum(message.get("type") == kind for message in messages)


async def test_a_session_is_counted_as_its_client_counts():
    local = LocalInstruments()
    metrics = Metrics(local)
    async with talking_speech(metrics=metrics) as speech:
        app = create_app(speech, FakeSettings(), metrics)
        async with AsgiSocket(app) as socket:
            await socket.start(partial_interval_ms=50)
            for start in range(0, len(AUDIO), 1600):
                socket.say(AUDIO[start : start + 1600].tobytes())
                await asyncio.sleep(0)
            socket.say({"type": "end_session"})
            messages = await socket.heard_until("session_ended")
    finals, partials = count(messages, "final_transcript"), count(messages, "partial_transcript")
    assert finals == 5
    assert local.value("stt_texts_sent_total", {"job_type": "final"}) == finals
    assert (local.value("stt_texts_sent_total", {"job_type": "interim"}) or 0) == partials
    assert local.value("stt_sessions_started_total", {"resumed": "false"}) == 1
    assert local.value("stt_sessions_ended_total", {"reason": "completed"}) == 1
    seconds = local.value("stt_audio_seconds_total", {"request_type": "session"}) or 0
    assert round(seconds * SAMPLE_RATE_HZ) == len(AUDIO)


async def test_an_interim_that_was_replaced_unread_was_not_sent():
    local = LocalInstruments()
    async with AsgiSocket(create_app(FakeService(), FakeSettings(), Metrics(local))) as socket:
        await socket.start()
        socket.stall()
        second = b"\0\0" * SAMPLE_RATE_HZ
        for _ in range(60):
            socket.say(second)
        socket.say({"type": "flush"})
        while socket.num_untaken:
            await asyncio.sleep(0.01)
        socket.read_on()
        socket.say({"type": "end_session"})
        messages = await socket.heard_until("session_ended")
    partials = count(messages, "partial_transcript")
    assert 0 < partials < 120
    assert local.value("stt_texts_sent_total", {"job_type": "interim"}) == partials
    assert local.value("stt_texts_sent_total", {"job_type": "final"}) == count(messages, "final_transcript")


async def test_an_upload_is_counted_with_its_windows_and_its_failures():
    local = LocalInstruments()
    metrics = Metrics(local)
    async with talking_speech(metrics=metrics) as speech:
        app = create_app(speech, FakeSettings(), metrics)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            answer = await client.post("/transcribe", files={"file": ("a.wav", wav(AUDIO, SAMPLE_RATE_HZ))})
            refused = await client.post("/transcribe", files={"file": ("a.wav", b"no audio" * 100)})
    assert (answer.status_code, refused.status_code) == (200, 400)
    requests = "whisper_transcription_requests_total"
    assert local.value(requests, {"status": "success", "cached": "false"}) == 1
    assert local.value(requests, {"status": "error", "cached": "false"}) == 1
    seconds = local.value("stt_audio_seconds_total", {"request_type": "upload"}) or 0
    assert round(seconds * SAMPLE_RATE_HZ) == len(AUDIO)
    assert (local.value("stt_jobs_processed_total", {"job_type": "recording", "status": "success"}) or 0) >= 1
