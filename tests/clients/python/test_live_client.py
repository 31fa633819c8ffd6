import numpy as np
import pytest

from fakes.messages import ended
from serve_app.launch.cluster import free_ports
from sotto_client.errors import ConnectionLost, RequestFailed, ServerUnreachable, SessionFailed
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import FinalTranscript, PartialTranscript, SessionEnded

CHUNK = np.zeros(1600, np.int16)


async def test_a_session_from_start_to_end(speech_server: str) -> None:
    async with LiveClient(speech_server) as client:
        started = await client.start(SessionConfig(lang_code="en"), session_id="mine")
        assert started.session_id == "mine"
        await client.send_audio(CHUNK)
        await client.send_audio(CHUNK.tobytes())
        await client.flush()
        await client.end()
        messages = [message async for message in client]
    kinds = [type(message) for message in messages]
    assert kinds == [PartialTranscript, PartialTranscript, FinalTranscript, FinalTranscript, SessionEnded]
    assert [m.end_ms for m in messages if isinstance(m, PartialTranscript)] == [100.0, 200.0]
    assert messages[-1] == ended("completed", 200.0, 2)


async def test_samples_are_sent_little_endian(speech_server: str) -> None:
    async with LiveClient(speech_server) as client:
        await client.start()
        await client.send_audio(np.ones(16, ">i2").astype(np.int16))
        await client.cancel()
        messages = [message async for message in client]
    assert messages[-1] == ended("cancelled", 1.0, 0)


async def test_a_refused_session_says_why(speech_server: str) -> None:
    async with LiveClient(speech_server) as client:
        with pytest.raises(SessionFailed, match="in use") as refused:
            await client.start(session_id="taken")
    assert refused.value.code == "SESSION_EXISTS"


async def test_a_connection_that_ends_early_is_an_error(speech_server: str) -> None:
    async with LiveClient(speech_server) as client:
        await client.start(SessionConfig(prompt="drop"))
        await client.send_audio(CHUNK)
        with pytest.raises(ConnectionLost) as lost:
            async for _ in client:
                pass
    assert lost.value.close_code == 1012


async def test_nobody_listens() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ServerUnreachable, match="sotto serve"):
        await LiveClient(url).connect()


async def test_a_server_without_that_door(speech_server: str) -> None:
    with pytest.raises(RequestFailed) as refused:
        await LiveClient(speech_server + "/elsewhere").connect()
    assert refused.value.status in (403, 404)


async def test_sending_before_connecting_is_the_callers_mistake() -> None:
    with pytest.raises(RuntimeError, match="connect"):
        await LiveClient("http://127.0.0.1:1").flush()


def test_only_chosen_fields_go_on_the_wire() -> None:
    assert SessionConfig().to_wire() == {}
    assert SessionConfig(lang_code="pt", vad_enabled=False).to_wire() == {
        "lang_code": "pt",
        "vad_enabled": False,
    }
