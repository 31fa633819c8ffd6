"""The LiveKit plugin inside LiveKit's own stream machinery, against doors on a loopback port."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from fakes.speech_server import final_message, partial_message
from fakes.spoken_events import GREETING
from serve_app.core.errors import MaxSessionsReached
from serve_app.launch.cluster import free_ports
from serve_app.web.app import create_app

pytest.importorskip("livekit.agents", reason="livekit-agents is not installed (requirements/sdk.txt)")

from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIStatusError, stt

from sotto_client.errors import GaveUp, RequestFailed, SessionFailed
from sotto_client.live import SessionConfig
from sotto_client.livekit_events import api_error
from sotto_client.livekit_plugin import WhisperSTT

pytestmark = pytest.mark.extras

SPOKEN = Path(__file__).resolve().parents[3] / "audio" / "spoken"
Kind = stt.SpeechEventType
ONCE = APIConnectOptions(max_retry=0, timeout=5.0)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    with running_app(create_app(service, FakeSettings())) as port:
        yield f"ws://127.0.0.1:{port}/ws/stt"


def frames(samples: np.ndarray, rate_hz: int = 16_000, channels: int = 1) -> Iterator[rtc.AudioFrame]:
    """10 ms each, as WebRTC hands them out; `samples` int16 (num_samples,) or (num_samples, channels)."""
    step = rate_hz // 100
    for start in range(0, len(samples) - step + 1, step):
        data = np.ascontiguousarray(samples[start : start + step]).tobytes()
        yield rtc.AudioFrame(data, rate_hz, channels, step)


def silence(seconds: float, rate_hz: int = 16_000) -> np.ndarray:
    return np.zeros(int(seconds * rate_hz), np.int16)


async def told(stream: stt.RecognizeStream) -> list[stt.SpeechEvent]:
    return [event async for event in stream]


def of(events: list[stt.SpeechEvent], *kinds: stt.SpeechEventType) -> list[stt.SpeechEvent]:
    return [event for event in events if event.type in kinds]


async def test_a_stream_from_start_to_end(service: FakeService, url: str) -> None:
    async with WhisperSTT(url, "pt") as whisper:
        stream = whisper.stream(conn_options=ONCE)
        for frame in frames(silence(1.0)):
            stream.push_frame(frame)
        stream.flush()
        for frame in frames(silence(0.7)):
            stream.push_frame(frame)
        stream.end_input()
        events = await told(stream)
    kinds = [event.type for event in events if event.type is not Kind.RECOGNITION_USAGE]
    assert kinds == [
        Kind.START_OF_SPEECH,
        Kind.PREFLIGHT_TRANSCRIPT,
        Kind.INTERIM_TRANSCRIPT,
        Kind.INTERIM_TRANSCRIPT,
        Kind.END_OF_SPEECH,
        Kind.FINAL_TRANSCRIPT,
        Kind.START_OF_SPEECH,
        Kind.PREFLIGHT_TRANSCRIPT,
        Kind.INTERIM_TRANSCRIPT,
        Kind.END_OF_SPEECH,
        Kind.FINAL_TRANSCRIPT,
    ]
    assert [event.alternatives[0].text for event in of(events, Kind.PREFLIGHT_TRANSCRIPT)] == ["1", "3"]
    first, second = (event.alternatives[0] for event in of(events, Kind.FINAL_TRANSCRIPT))
    assert (first.text, first.language, first.confidence) == ("Olá, mundo. 16000", "pt", 0.9)
    assert (first.start_time, first.end_time) == pytest.approx((0.0, 1.0), abs=1e-3)
    assert (second.start_time, second.end_time) == pytest.approx((1.0, 1.7), abs=1e-3)
    assert second.words is not None
    assert [(str(word), word.confidence) for word in second.words] == [("Olá", 0.99), ("mundo", 0.98)]
    assert [word.start_time for word in second.words] == pytest.approx([1.0, 1.7], abs=1e-3)
    usage = [event.recognition_usage for event in of(events, Kind.RECOGNITION_USAGE)]
    assert sum(part.audio_duration for part in usage if part) == pytest.approx(1.7)
    (session,) = service.sessions
    assert session.options.language == "pt"
    assert len(session.audio) == 27_200


@pytest.mark.skipif(not SPOKEN.is_dir(), reason="audio/spoken is not here")
async def test_speech_arrives_as_it_was_spoken(service: FakeService, url: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples, rate_hz = soundfile.read(SPOKEN / "short_0.flac", dtype="int16")
    whole = samples[: len(samples) // 160 * 160]
    async with WhisperSTT(url) as whisper:
        stream = whisper.stream(conn_options=ONCE)
        for frame in frames(whole, rate_hz):
            stream.push_frame(frame)
        stream.end_input()
        events = await told(stream)
    np.testing.assert_array_equal(service.sessions[0].audio, whole)
    end_s = of(events, Kind.FINAL_TRANSCRIPT)[-1].alternatives[0].end_time
    assert end_s == pytest.approx(len(whole) / 16_000, abs=1e-3)


async def test_other_rates_and_stereo_become_16_khz_mono(service: FakeService, url: str) -> None:
    left, right = np.full(48_000, 3000, np.int16), np.full(48_000, 1000, np.int16)
    async with WhisperSTT(url) as whisper:
        for samples, channels in ((left, 1), (np.stack([left, right], axis=1)[:, :], 2)):
            stream = whisper.stream(conn_options=ONCE)
            rate_hz = 48_000 if channels == 1 else 16_000
            for frame in frames(samples, rate_hz, channels):
                stream.push_frame(frame)
            stream.end_input()
            await told(stream)
    resampled, mixed = (session.audio for session in service.sessions)
    assert len(resampled) == pytest.approx(16_000, abs=200)
    assert np.median(resampled) == pytest.approx(3000, abs=30)
    assert len(mixed) == 48_000
    assert set(mixed.tolist()) == {2000}


async def test_the_language_of_a_stream_and_of_later_ones(service: FakeService, url: str) -> None:
    async with WhisperSTT(url) as whisper:
        for language in ("de", None, "fr"):
            if language == "fr":
                whisper.update_options(language="fr")
            stream = whisper.stream(conn_options=ONCE, **({"language": "de"} if language == "de" else {}))
            stream.push_frame(next(frames(silence(0.1))))
            stream.end_input()
            await told(stream)
    assert [session.options.language for session in service.sessions] == ["de", None, "fr"]


async def test_a_full_server_is_an_error_worth_a_retry(service: FakeService, url: str) -> None:
    service.refuse_with = MaxSessionsReached("full")
    async with WhisperSTT(url) as whisper:
        seen: list[stt.STTError] = []

        def note(error: stt.STTError) -> None:
            seen.append(error)
            service.refuse_with = None

        whisper.on("error", note)
        stream = whisper.stream(conn_options=APIConnectOptions(max_retry=1, retry_interval=0.0, timeout=5.0))
        for frame in frames(silence(0.5)):
            stream.push_frame(frame)
        stream.end_input()
        events = await told(stream)
    assert [(error.recoverable, error.error.status_code) for error in seen] == [(True, 503)]
    assert len(of(events, Kind.FINAL_TRANSCRIPT)) == 1
    assert len(service.sessions[0].audio) == 8_000


async def test_a_refused_choice_is_not_tried_again(service: FakeService, url: str) -> None:
    async with WhisperSTT(url, "no such language") as whisper:
        stream = whisper.stream(conn_options=APIConnectOptions(max_retry=3, retry_interval=0.0))
        stream.push_frame(next(frames(silence(0.1))))
        with pytest.raises(APIStatusError) as refused:
            await told(stream)
    assert (refused.value.status_code, refused.value.retryable) == (400, False)


async def test_nobody_listens() -> None:
    async with WhisperSTT(f"http://127.0.0.1:{free_ports(1)[0]}") as whisper:
        stream = whisper.stream(conn_options=ONCE)
        stream.push_frame(next(frames(silence(0.1))))
        with pytest.raises(APIConnectionError):
            await told(stream)
        with pytest.raises(APIConnectionError):
            await whisper.recognize(next(frames(silence(0.1))), conn_options=ONCE)


async def test_a_session_that_ended_in_a_pause_is_followed_by_another(url: str, service: FakeService) -> None:
    async with WhisperSTT(url) as whisper:
        stream = whisper.stream(conn_options=ONCE)
        for frame in frames(silence(0.5)):
            stream.push_frame(frame)
        events = [await anext(stream) for _ in range(3)]
        service.sessions[0].end()  # as the server does when nothing has come for long
        while not of(events, Kind.END_OF_SPEECH):
            events.append(await anext(stream))
        while service.live:
            await asyncio.sleep(0.01)
        for frame in frames(silence(0.5)):
            stream.push_frame(frame)
        stream.end_input()
        events += await told(stream)
    first, second = (event.alternatives[0] for event in of(events, Kind.FINAL_TRANSCRIPT))
    assert [len(session.audio) for session in service.sessions] == [8_000, 8_000]
    assert second.start_time > first.start_time


async def test_closing_lets_go_of_the_session(service: FakeService, url: str) -> None:
    whisper = WhisperSTT(url)
    stream = whisper.stream(conn_options=ONCE)
    for frame in frames(silence(0.5)):
        stream.push_frame(frame)
    assert (await anext(stream)).type is Kind.START_OF_SPEECH
    await whisper.aclose()
    while service.live:
        await asyncio.sleep(0.01)
    assert service.closed == [session.session_id for session in service.sessions]


class _Replica:
    """Takes sessions with tickets; the first connection is lost right behind its first final."""

    def __init__(self) -> None:
        self.starts: list[dict[str, object]] = []
        self.num_bytes: list[int] = []

    def __call__(self) -> Starlette:
        return Starlette(routes=[WebSocketRoute("/ws/stt", self._live)])

    async def _live(self, socket: WebSocket) -> None:
        await socket.accept()
        self.starts.append(json.loads(await socket.receive_text()))
        is_first = len(self.starts) == 1
        sample = 0 if is_first else 8_000
        started = {"resumed": not is_first, "resume_from_samples": sample, "ticket": "ticket"}
        await socket.send_json({"type": "session_started", "session_id": "s", **started})
        self.num_bytes.append(0)
        async for audio in self._audio(socket):
            self.num_bytes[-1] += len(audio)
            if is_first and self.num_bytes[-1] >= 24_000:
                await socket.send_json(partial_message("hello", 500.0))
                point = {"resume_from_samples": 8_000, "ticket": "ticket-1"}
                await socket.send_json(final_message("hello", 500.0) | point)
                await socket.close(1012)
                return
        point = {"resume_from_samples": 16_000, "ticket": "ticket-2"}
        await socket.send_json(final_message("again", 1000.0) | point)
        ended = {"reason": "completed", "total_audio_ms": 1000.0, "total_segments": 2}
        await socket.send_json({"type": "session_ended", "session_id": "s", **ended})
        await socket.close()

    async def _audio(self, socket: WebSocket) -> AsyncIterator[bytes]:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            if message.get("bytes") is not None:
                yield message["bytes"]
            elif json.loads(message["text"])["type"] == "end_session":
                return


async def test_a_lost_connection_is_resumed_without_the_framework_noticing() -> None:
    replica = _Replica()
    with running_app(replica()) as port:
        async with WhisperSTT(f"ws://127.0.0.1:{port}/ws/stt") as whisper:
            errors: list[stt.STTError] = []
            whisper.on("error", errors.append)
            stream = whisper.stream(conn_options=ONCE)
            for frame in frames(silence(1.0)):
                stream.push_frame(frame)
            stream.end_input()
            events = await told(stream)
    assert errors == []
    assert [start["resume"] for start in replica.starts] in (["", "ticket-1"], [None, "ticket-1"])
    assert replica.num_bytes[1] == 16_000
    texts = [event.alternatives[0].text for event in of(events, Kind.FINAL_TRANSCRIPT)]
    assert texts == ["hello", "again"]


async def test_finals_have_the_speaker_that_is_known(service: FakeService, url: str) -> None:
    service.on_open = lambda session: session.say(GREETING)
    async with WhisperSTT(url, config=SessionConfig(diarization=True)) as whisper:
        assert whisper.capabilities.diarization
        stream = whisper.stream(conn_options=ONCE)
        for frame in frames(silence(0.2)):
            stream.push_frame(frame)
        stream.end_input()
        finals = of(await told(stream), Kind.FINAL_TRANSCRIPT)
    assert [event.alternatives[0].speaker_id for event in finals] == ["SPEAKER_01", None]
    assert not WhisperSTT(url).capabilities.diarization


async def test_a_recording_is_transcribed_with_words(service: FakeService, url: str) -> None:
    async with WhisperSTT(url, "en", preflight=False) as whisper:
        event = await whisper.recognize(list(frames(silence(0.5))), conn_options=ONCE)
    (data,) = event.alternatives
    assert event.type is Kind.FINAL_TRANSCRIPT
    assert data.text == "Hello there. General Kenobi."
    assert data.words is not None
    assert [str(word) for word in data.words] == ["Hello", "there", "General", "Kenobi"]
    assert (data.start_time, data.end_time) == (0.0, 1.9)
    assert data.confidence == pytest.approx(0.975)
    audio, options = service.uploads[0]
    assert len(audio) == 8_000
    assert options.language == "en"


async def test_a_refused_recording_carries_the_status(url: str) -> None:
    async with WhisperSTT(url) as whisper:
        with pytest.raises(APIStatusError) as refused:
            await whisper.recognize(next(frames(silence(0.01))), conn_options=ONCE)
    assert refused.value.status_code == 400
    assert not refused.value.retryable


def test_errors_say_whether_to_try_again() -> None:
    assert api_error(SessionFailed("QUEUE_FULL", "full", retryable=True)).retryable
    assert not api_error(SessionFailed("SESSION_EXISTS", "in use")).retryable
    assert api_error(SessionFailed("INTERNAL_ERROR", "oops", retryable=True)).retryable
    assert api_error(RequestFailed(429, "slower")).retryable
    assert not api_error(RequestFailed(401, "no key")).retryable
    assert isinstance(api_error(GaveUp(30.0, None)), APIConnectionError)


def test_the_short_name_is_the_same_class() -> None:
    from clients.livekit_plugin import WhisperSTT as Short

    assert Short is WhisperSTT


def test_what_the_framework_is_told() -> None:
    whisper = WhisperSTT(service_url="ws://speech:8000/ws/stt", language="pt")
    assert whisper.service_url == "ws://speech:8000"
    assert whisper.capabilities.streaming
    assert whisper.capabilities.interim_results
    assert whisper.capabilities.manual_flush
    assert whisper.capabilities.aligned_transcript == "word"
    assert (whisper.model, whisper.provider) == ("whisper", "Sotto")


def test_without_livekit_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "livekit", None)
    monkeypatch.delitem(sys.modules, "sotto_client.livekit_plugin")
    with pytest.raises(ImportError, match="livekit-agents"):
        __import__("sotto_client.livekit_plugin")
