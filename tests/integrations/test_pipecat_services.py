"""Pipecat's own Deepgram and OpenAI services against our doors: nothing but the base URL is changed."""

import numpy as np
import pytest

from integrations.conftest import SPEECH, Doors, door
from integrations.snippets import built_by_example

pytest.importorskip("pipecat.services.deepgram.stt", reason="pipecat-ai[deepgram] is not installed")
pytest.importorskip("pipecat.services.openai.stt", reason="pipecat-ai[openai] is not installed")

from pipecat.frames.frames import (
    ErrorFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.openai.stt import OpenAIRealtimeSTTService, OpenAISTTService
from pipecat.transcriptions.language import Language

from fakes.pipecat_pipeline import running_pipeline


@pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")  # inside Deepgram's SDK
@door("/v1/listen")
async def test_deepgram_streams_and_finalizes(doors: Doors) -> None:
    service = DeepgramSTTService(
        api_key="unused",
        base_url=doors.url("ws", ""),
        settings=DeepgramSTTService.Settings(language=Language.PT, smart_format=True),
    )
    async with running_pipeline(service) as pipeline:
        await pipeline.push(VADUserStartedSpeakingFrame())
        await pipeline.speak(SPEECH)
        await pipeline.until(InterimTranscriptionFrame, 2)
        await pipeline.push(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await pipeline.until(TranscriptionFrame)
    assert [frame.text for frame in pipeline.of(InterimTranscriptionFrame)] == ["1 halves", "2 halves"]
    (final,) = pipeline.of(TranscriptionFrame)
    assert (final.text, final.finalized) == ("Olá, mundo.", True)
    assert pipeline.of(ErrorFrame) == []
    np.testing.assert_array_equal(doors.session.audio, SPEECH)
    assert doors.session.options.language == "pt"
    assert doors.session.num_flushes >= 1


@door("/v1/audio/transcriptions")
async def test_openai_transcribes_segments(doors: Doors) -> None:
    service = OpenAISTTService(
        api_key="unused",
        base_url=doors.url("http", "/v1"),
        settings=OpenAISTTService.Settings(model="whisper-1", language=Language.PT),
    )
    async with running_pipeline(service) as pipeline:
        await pipeline.push(VADUserStartedSpeakingFrame())
        await pipeline.speak(SPEECH)
        await pipeline.push(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await pipeline.until(TranscriptionFrame)
    await service._client.close()  # the service leaves that to the garbage collector
    (final,) = pipeline.of(TranscriptionFrame)
    assert final.text == "Hello there. General Kenobi."
    assert pipeline.of(ErrorFrame) == []
    audio, options = doors.service.uploads[0]
    assert len(audio) >= len(SPEECH)
    assert options.language == "pt"


@door("/v1/realtime")
@pytest.mark.parametrize("model", ["gpt-realtime-whisper", "gpt-4o-transcribe"])
async def test_openai_realtime_with_the_pipelines_voice_detection(doors: Doors, model: str) -> None:
    service = OpenAIRealtimeSTTService(
        api_key="unused",
        base_url=doors.url("ws", "/v1/realtime"),
        settings=OpenAIRealtimeSTTService.Settings(model=model, language=Language.PT),
    )
    async with running_pipeline(service) as pipeline:
        await pipeline.push(VADUserStartedSpeakingFrame())
        await pipeline.speak(SPEECH)
        await pipeline.push(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await pipeline.until(TranscriptionFrame)
    (final,) = pipeline.of(TranscriptionFrame)
    assert final.text.startswith("Olá, mundo.")
    assert pipeline.of(ErrorFrame) == []
    assert doors.session.options.language == "pt"


@door("/v1/realtime")
async def test_openai_realtime_with_the_servers_voice_detection(doors: Doors) -> None:
    service = OpenAIRealtimeSTTService(
        api_key="unused",
        base_url=doors.url("ws", "/v1/realtime"),
        turn_detection={"type": "server_vad", "silence_duration_ms": 400},
        settings=OpenAIRealtimeSTTService.Settings(model="gpt-4o-transcribe"),
    )
    async with running_pipeline(service) as pipeline:
        await pipeline.speak(SPEECH)
        await pipeline.until(InterimTranscriptionFrame)
        doors.do(doors.session.flush)
        await pipeline.until(TranscriptionFrame)
    assert pipeline.of(TranscriptionFrame)[0].text.startswith("Olá, mundo.")
    assert doors.session.options.endpointing.min_silence_ms == 400
    assert pipeline.of(ErrorFrame) == []


@pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")  # inside Deepgram's SDK
@door("/v1/realtime")
@pytest.mark.parametrize("name", ["live", "recordings", "realtime"])
async def test_what_the_documentation_builds_works(doors: Doors, name: str) -> None:
    services = built_by_example("pipecat", doors.port)
    async with running_pipeline(services[name]) as pipeline:
        await pipeline.push(VADUserStartedSpeakingFrame())
        await pipeline.speak(SPEECH)
        if name == "live":
            await pipeline.until(InterimTranscriptionFrame)
        await pipeline.push(VADUserStoppedSpeakingFrame(stop_secs=0.2))
        await pipeline.until(TranscriptionFrame)
    await services["recordings"]._client.close()  # the service leaves that to the garbage collector
    expected = "Hello there." if name == "recordings" else "Olá, mundo."
    assert pipeline.of(TranscriptionFrame)[0].text.startswith(expected)
    assert pipeline.of(ErrorFrame) == []
