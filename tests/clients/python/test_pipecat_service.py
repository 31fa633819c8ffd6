"""The Pipecat service in a pipeline, against doors on a loopback port."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from fakes.spoken_events import GREETING
from serve_app.core.errors import MaxSessionsReached
from serve_app.web.app import create_app

pytest.importorskip("pipecat.services.stt_service", reason="pipecat-ai is not installed")

from pipecat.frames.frames import (
    ErrorFrame,
    InterimTranscriptionFrame,
    STTUpdateSettingsFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.services.settings import STTSettings
from pipecat.transcriptions.language import Language

from fakes.pipecat_pipeline import running_pipeline
from sotto_client.live import SessionConfig
from sotto_client.messages import FinalTranscript
from sotto_client.pipecat_service import SottoSTTService, language_of

SPEECH = np.random.default_rng(0).integers(-8000, 8000, 16_000).astype(np.int16)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def url(service: FakeService) -> Iterator[str]:
    with running_app(create_app(service, FakeSettings())) as port:
        yield f"http://127.0.0.1:{port}"


async def test_the_user_of_a_final_is_its_speaker(service: FakeService, url: str) -> None:
    service.on_open = lambda session: session.say(GREETING)
    stt = SottoSTTService(url, ttfs_p99_latency=0.5, config=SessionConfig(diarization=True))
    async with running_pipeline(stt) as pipeline:
        await pipeline.speak(SPEECH)
        await pipeline.until(TranscriptionFrame)
    assert pipeline.of(TranscriptionFrame)[0].user_id == "SPEAKER_01"


async def test_interims_and_a_finalized_final(service: FakeService, url: str) -> None:
    stt = SottoSTTService(url + "/ws/stt", Language.PT_BR, ttfs_p99_latency=0.5)
    async with running_pipeline(stt) as pipeline:
        await pipeline.push(VADUserStartedSpeakingFrame())
        await pipeline.speak(SPEECH)
        await pipeline.until(InterimTranscriptionFrame, 2)
        await pipeline.push(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await pipeline.until(TranscriptionFrame)
    assert [frame.text for frame in pipeline.of(InterimTranscriptionFrame)] == ["1 halves", "2 halves"]
    (final,) = pipeline.of(TranscriptionFrame)
    assert (final.text, final.finalized, final.language) == ("Olá, mundo. 16000", True, Language.PT)
    assert isinstance(final.result, FinalTranscript)
    assert [word.word for word in final.result.words] == ["Olá", "mundo"]
    assert pipeline.of(ErrorFrame) == []
    (session,) = service.sessions
    np.testing.assert_array_equal(session.audio, SPEECH)
    assert session.options.language == "pt"


async def test_the_end_of_a_pipeline_brings_what_was_spoken_last(service: FakeService, url: str) -> None:
    async with running_pipeline(SottoSTTService(url, ttfs_p99_latency=0.5)) as pipeline:
        await pipeline.speak(SPEECH)
        await pipeline.until(InterimTranscriptionFrame, 2)
    assert [frame.text for frame in pipeline.of(TranscriptionFrame)] == ["Olá, mundo. 16000"]
    assert service.sessions[0].options.language is None


async def test_the_pipelines_rate_is_told_to_the_server(service: FakeService, url: str) -> None:
    stt = SottoSTTService(url, ttfs_p99_latency=0.5)
    async with running_pipeline(stt, rate_hz=8_000) as pipeline:
        await pipeline.speak(SPEECH[:8_000])
        await pipeline.until(InterimTranscriptionFrame)
    assert service.sessions[0].num_samples == pytest.approx(16_000, abs=100)


async def test_a_server_that_was_full_is_asked_again_when_sound_comes(service: FakeService, url: str) -> None:
    service.refuse_with = MaxSessionsReached("full")
    async with running_pipeline(SottoSTTService(url, ttfs_p99_latency=0.5)) as pipeline:
        await pipeline.speak(SPEECH[:320])
        await pipeline.until(ErrorFrame)
        service.refuse_with = None
        await pipeline.speak(SPEECH)
        await pipeline.until(InterimTranscriptionFrame)
    assert "MAX_SESSIONS_REACHED" in pipeline.of(ErrorFrame)[0].error
    assert len(service.sessions) == 1


async def test_another_language_takes_another_session(service: FakeService, url: str) -> None:
    stt = SottoSTTService(url, "en", ttfs_p99_latency=0.5)
    async with running_pipeline(stt) as pipeline:
        await pipeline.speak(SPEECH)
        await pipeline.until(InterimTranscriptionFrame)
        await pipeline.push(STTUpdateSettingsFrame(delta=STTSettings(language=Language.DE)))
        await pipeline.speak(SPEECH)
        await pipeline.until(TranscriptionFrame)
    assert [session.options.language for session in service.sessions] == ["en", "de"]


def test_languages_that_pipecat_does_not_know() -> None:
    assert language_of("pt") is Language.PT
    assert language_of("not a language") is None


def test_without_pipecat_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pipecat.frames.frames", None)
    monkeypatch.delitem(sys.modules, "sotto_client.pipecat_service")
    with pytest.raises(ImportError, match="pipecat-ai"):
        __import__("sotto_client.pipecat_service")
