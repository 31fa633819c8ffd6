import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from fakes.messages import ended
from serve_app.launch.cluster import free_ports
from sotto_client.duplex_http import lines
from sotto_client.errors import ConnectionLost, RequestFailed, ServerUnreachable
from sotto_client.messages import (
    FinalTranscript,
    Heartbeat,
    Message,
    OtherMessage,
    PartialTranscript,
    SessionEnded,
)
from sotto_client.streams import file_chunks, transcribe_stream


async def test_answers_arrive_while_the_body_is_still_being_sent(speech_server: str) -> None:
    """The second chunk is sent only after the first one's answer came: without duplex this hangs."""
    answered = asyncio.Event()

    async def audio() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(3200)
            await asyncio.wait_for(answered.wait(), timeout=60)
            answered.clear()

    received: list[Message] = []
    async for message in transcribe_stream(audio(), url=speech_server):
        received.append(message)
        if isinstance(message, PartialTranscript):
            answered.set()
    partials = [message.end_ms for message in received if isinstance(message, PartialTranscript)]
    assert partials == [100.0, 200.0, 300.0]
    kinds = [type(message) for message in received[-4:]]
    assert kinds == [FinalTranscript, Heartbeat, OtherMessage, SessionEnded]


async def test_a_whole_file(speech_server: str) -> None:
    received = [m async for m in transcribe_stream(file_chunks(bytes(1_000_000)), url=speech_server)]
    assert received[-1] == ended("completed", 31250.0, 1)


async def test_a_refusal_carries_the_servers_words(speech_server: str) -> None:
    stream = transcribe_stream(file_chunks(b"x"), url=speech_server, content_type="text/plain")
    with pytest.raises(RequestFailed, match="no audio type") as refused:
        await anext(stream)
    assert refused.value.status == 415


async def test_an_answer_that_is_cut_short(speech_server: str) -> None:
    stream = transcribe_stream(file_chunks(b"x"), url=speech_server, query={"prompt": "cut"})
    with pytest.raises(ConnectionLost):
        [message async for message in stream]


async def test_the_audio_sources_own_error_comes_through(speech_server: str) -> None:
    async def audio() -> AsyncIterator[bytes]:
        yield bytes(3200)
        raise OSError("microphone unplugged")

    with pytest.raises(OSError, match="unplugged"):
        async for _ in transcribe_stream(audio(), url=speech_server):
            pass


async def test_nobody_listens() -> None:
    stream = transcribe_stream(file_chunks(b"x"), url=f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(ServerUnreachable):
        await anext(stream)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_lines_are_the_same_however_they_are_cut(size: int) -> None:
    data = b'{"a":1}\n\n{"b":2}\r\n{"c":3}'

    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    found = [line.strip() async for line in lines(chunks())]
    assert found == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
