"""LiveKit's own Deepgram and OpenAI plugins against our doors: nothing but the base URL is changed."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from integrations.conftest import SPEECH, Doors, door
from integrations.snippets import built_by_example

pytest.importorskip("livekit.plugins.deepgram", reason="livekit-plugins-deepgram is not installed")
pytest.importorskip("livekit.plugins.openai", reason="livekit-plugins-openai is not installed")

from livekit import rtc
from livekit.agents import APIConnectOptions, APIStatusError, stt, utils
from livekit.plugins import deepgram, openai

pytestmark = pytest.mark.extras

Kind = stt.SpeechEventType
ONCE = APIConnectOptions(max_retry=0, timeout=5.0)


@pytest.fixture
async def http() -> AsyncIterator[None]:
    async with utils.http_context.open():
        yield


def frames(samples: np.ndarray) -> Iterator[rtc.AudioFrame]:
    for start in range(0, len(samples) - 159, 160):
        yield rtc.AudioFrame(samples[start : start + 160].tobytes(), 16_000, 1, 160)


def of(events: list[stt.SpeechEvent], kind: stt.SpeechEventType) -> list[stt.SpeechData]:
    return [event.alternatives[0] for event in events if event.type is kind]


def kinds(events: list[stt.SpeechEvent]) -> list[stt.SpeechEventType]:
    return [event.type for event in events]


def deepgram_stt(doors: Doors, **options: object) -> deepgram.STT:
    return deepgram.STT(base_url=doors.url("http", "/v1/listen"), api_key="unused", language="pt", **options)


@pytest.mark.usefixtures("http")
@door("/v1/listen")
async def test_deepgram_streams(doors: Doors) -> None:
    stream = deepgram_stt(doors).stream(conn_options=ONCE)
    for frame in frames(SPEECH):
        stream.push_frame(frame)
    stream.flush()
    for frame in frames(SPEECH[:12_000]):
        stream.push_frame(frame)
    stream.end_input()
    events = [event async for event in stream if event.type is not Kind.RECOGNITION_USAGE]
    assert kinds(events)[0] is Kind.START_OF_SPEECH
    assert of(events, Kind.INTERIM_TRANSCRIPT)[0].text == "1 halves"
    finals = of(events, Kind.FINAL_TRANSCRIPT)
    assert [final.text for final in finals] == ["Olá, mundo.", "Olá, mundo."]
    assert Kind.END_OF_SPEECH in kinds(events)
    assert finals[1].words is not None
    assert [str(word) for word in finals[1].words] == ["Olá,", "mundo."]
    assert finals[1].words[0].start_time == pytest.approx(1.0, abs=1e-3)
    assert finals[1].confidence == pytest.approx(0.9, abs=0.1)
    session = doors.service.sessions[0]
    np.testing.assert_array_equal(session.audio, np.concatenate([SPEECH, SPEECH[:12_000]]))
    assert session.options.language == "pt"


@pytest.mark.usefixtures("http")
@door("/v1/listen")
async def test_deepgram_options_that_we_lack_do_no_harm(doors: Doors) -> None:
    whisper = deepgram_stt(
        doors,
        model="nova-3",
        smart_format=True,
        profanity_filter=True,
        keyterm=["Sotto"],
        utterance_end_ms=1000,
        numerals=True,
        filler_words=False,
        tags=["a"],
    )
    stream = whisper.stream(conn_options=ONCE)
    for frame in frames(SPEECH):
        stream.push_frame(frame)
    stream.end_input()
    events = [event async for event in stream]
    assert of(events, Kind.FINAL_TRANSCRIPT)[0].text == "Olá, mundo."


@pytest.mark.usefixtures("http")
@door("/v1/listen")
async def test_deepgram_recognises_a_recording(doors: Doors) -> None:
    event = await deepgram_stt(doors).recognize(list(frames(SPEECH)), conn_options=ONCE)
    assert event.alternatives[0].text == "Hello there. General Kenobi."
    assert event.alternatives[0].words is not None
    assert [str(word) for word in event.alternatives[0].words] == ["Hello", "there.", "General", "Kenobi."]
    assert len(doors.service.uploads[0][0]) == len(SPEECH)


@asynccontextmanager
async def openai_stt(doors: Doors, **options: object) -> AsyncIterator[openai.STT]:
    whisper = openai.STT(base_url=doors.url("http", "/v1"), api_key="unused", language="pt", **options)
    yield whisper
    await whisper.aclose()
    await whisper._client.close()  # the plugin leaves that to the garbage collector


@door("/v1/audio/transcriptions")
@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-mini-transcribe", "gpt-transcribe"])
async def test_openai_recognises_a_recording(doors: Doors, model: str) -> None:
    async with openai_stt(doors, model=model, prompt="Kenobi") as whisper:
        event = await whisper.recognize(list(frames(SPEECH)), conn_options=ONCE)
    assert event.alternatives[0].text == "Hello there. General Kenobi."
    audio, options = doors.service.uploads[0]
    assert len(audio) == len(SPEECH)
    assert (options.language, options.prompt) == ("pt", "Kenobi")


@door("/v1/audio/transcriptions")
async def test_openai_tells_a_refusal_by_its_status(doors: Doors) -> None:
    async with openai_stt(doors, model="no-such-model") as whisper:
        with pytest.raises(APIStatusError) as refused:
            await whisper.recognize(list(frames(SPEECH)), conn_options=ONCE)
    assert refused.value.status_code == 404


@pytest.mark.usefixtures("http")
@door("/v1/realtime")
@pytest.mark.parametrize("model", ["gpt-4o-mini-transcribe", "gpt-4o-transcribe"])
async def test_openai_streams_over_realtime(doors: Doors, model: str) -> None:
    async with openai_stt(doors, model=model, use_realtime=True) as whisper:
        stream = whisper.stream(conn_options=ONCE)
        for frame in frames(SPEECH):
            stream.push_frame(frame)
        stream.flush()
        events = [await anext(stream)]
        while Kind.INTERIM_TRANSCRIPT not in kinds(events):
            events.append(await anext(stream))
        doors.do(doors.session.flush)  # the server's voice detection found the end
        while Kind.FINAL_TRANSCRIPT not in kinds(events):
            events.append(await anext(stream))
        await stream.aclose()
    assert kinds(events)[0] is Kind.START_OF_SPEECH
    assert Kind.END_OF_SPEECH in kinds(events)
    assert of(events, Kind.FINAL_TRANSCRIPT)[0].text.startswith("Olá, mundo.")
    assert doors.session.options.language == "pt"
    assert len(doors.session.audio) == pytest.approx(len(SPEECH), abs=800)


async def spoken_to(whisper: stt.STT, doors: Doors) -> list[str]:
    """The finals of a stream with a second of speech, whose end the server hears."""
    stream = whisper.stream(conn_options=ONCE)
    for frame in frames(SPEECH):
        stream.push_frame(frame)
    stream.flush()
    events = [await anext(stream)]
    while Kind.INTERIM_TRANSCRIPT not in kinds(events):
        events.append(await anext(stream))
    doors.do(doors.session.flush)
    while Kind.FINAL_TRANSCRIPT not in kinds(events):
        events.append(await anext(stream))
    await stream.aclose()
    return [final.text for final in of(events, Kind.FINAL_TRANSCRIPT)]


@pytest.mark.usefixtures("http")
@door("/v1/realtime")
async def test_what_the_documentation_builds_works(doors: Doors) -> None:
    built = built_by_example("livekit", doors.port)
    for name in ("resuming", "live", "realtime"):
        finals = await spoken_to(built[name], doors)
        assert finals[0].startswith("Olá, mundo."), name
    event = await built["recordings"].recognize(list(frames(SPEECH)), conn_options=ONCE)
    assert event.alternatives[0].text == "Hello there. General Kenobi."
    for name in ("recordings", "realtime"):
        await built[name].aclose()
        await built[name]._client.close()  # the plugin leaves that to the garbage collector
    await built["resuming"].aclose()
