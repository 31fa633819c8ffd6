"""Connections are cut wherever hypothesis likes; the transcript is the undisturbed one, word for word."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fakes.cutting_proxy import Cut, CuttingProxy
from fakes.messages import TIMING, ended
from fakes.talk import Say, speak
from fakes.talking_server import talking_server, talking_speech
from serve_app.core.samples import Pcm16
from serve_app.launch.cluster import free_ports
from sotto_client import blocking
from sotto_client.errors import ConnectionLost, GaveUp, RequestFailed, ServerUnreachable, SessionFailed
from sotto_client.live import SessionConfig
from sotto_client.live_streams import stream_audio
from sotto_client.messages import (
    FinalTranscript,
    Message,
    PartialTranscript,
    SessionEnded,
    SessionStarted,
    Ticket,
)
from sotto_client.resuming import ResumingClient

pytestmark = pytest.mark.slow

CONFIG = SessionConfig(lang_code="en", partial_interval_ms=100)
AUDIO = speak(
    [
        Say(1), Say(2, pause_ms=700), Say(3, pause_ms=12_000), Say(4), Say(5), Say(6, pause_ms=900),
        Say(7, ms=900, pause_ms=0), Say(7, ms=900), Say(8, pause_ms=800),
    ]
)  # fmt: skip
FLUSH_AT = 1600 * 170
"""In the middle of a word, which is cut in two there."""
assert len(AUDIO) > FLUSH_AT


def quick(url: str, config: SessionConfig = CONFIG, **options: object) -> ResumingClient:
    return ResumingClient(url, config, first_pause_s=0.001, max_pause_s=0.01, **options)  # type: ignore[arg-type]


async def say(client: ResumingClient, audio: Pcm16 = AUDIO, chunk: int = 1600) -> None:
    for start in range(0, len(audio), chunk):
        await client.send_audio(audio[start : start + chunk])
        if start + chunk == FLUSH_AT:
            await client.flush()
        await asyncio.sleep(0)
    await client.end()


async def talk(client: ResumingClient, audio: Pcm16 = AUDIO) -> list[Message]:
    async with client, asyncio.timeout(60):
        sender = asyncio.create_task(say(client, audio))
        try:
            return [message async for message in client]
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


def ending(messages: list[Message]) -> SessionEnded:
    """The last message, without the session's own name."""
    assert isinstance(messages[-1], SessionEnded)
    return replace(messages[-1], session_id="")


def finals(messages: list[Message]) -> list[FinalTranscript]:
    return [
        replace(m, timing=TIMING, ticket="", session_id="s")
        for m in messages
        if isinstance(m, FinalTranscript)
    ]


def words(messages: list[Message]) -> str:
    return " ".join(final.text for final in finals(messages))


UNDISTURBED = "w1 w2 w3 w4 w5 w6 w7 w7 w8"

cuts = st.builds(Cut, st.just(True), st.integers(1, 400_000)) | st.builds(
    Cut, st.just(False), st.integers(1, 12_000)
)
first_cuts = cuts.map(lambda cut: cut._replace(num_bytes=cut.num_bytes + 1_000))
"""The first connection has to succeed."""


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(first_cuts, st.lists(cuts, max_size=6))
def test_however_connections_are_cut_the_transcript_is_the_undisturbed_one(
    first: Cut, others: list[Cut]
) -> None:
    async def check() -> None:
        async with talking_server() as one, talking_server() as other:
            async with CuttingProxy([one]) as straight:
                expected = await talk(quick(straight.url))
            async with CuttingProxy([one, other], [first, *others]) as proxy:
                messages = await talk(quick(proxy.url))
        assert words(expected) == UNDISTURBED
        assert finals(messages) == finals(expected)
        assert ending(messages) == ending(expected)
        starts = [message for message in messages if isinstance(message, SessionStarted)]
        assert [start.resumed for start in starts] == [False] + [True] * (len(starts) - 1)
        assert len({start.session_id for start in starts}) == 1
        assert not [message for message in messages if isinstance(message, Ticket)]

    asyncio.run(check())


async def test_a_session_of_another_rate_and_encoding_goes_on_too() -> None:
    config = dataclasses.replace(CONFIG, sample_rate=48_000, encoding="float32")
    audio = np.repeat(AUDIO.astype("<f4") / 32_768, 3).tobytes()

    async def chunks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(audio), 19_200):
            yield audio[start : start + 19_200]

    async with talking_server() as port, CuttingProxy([port], [Cut(True, 1_500_000), Cut(False, 2_000)]) as p:
        messages = [m async for m in stream_audio(chunks(), url=p.url, config=config)]
        assert p.num_connections == 3
    texts = [word for word in words(messages).split() if word != "w7"]
    heard = [message for message in messages if isinstance(message, SessionEnded)]
    assert len(texts) >= 7
    assert heard[0].total_audio_ms == pytest.approx(len(AUDIO) / 16, abs=2)


async def test_a_ticket_that_nobody_takes_any_more_makes_the_rest_a_session_of_its_own() -> None:
    async with talking_server(b"old key") as one, CuttingProxy([one]) as straight:
        expected = await talk(quick(straight.url))
    async with (
        talking_server(b"old key") as old,
        talking_server(b"new key") as new,
        CuttingProxy([new, old], [Cut(True, 450_000)]) as proxy,
    ):
        messages = await talk(quick(proxy.url))
    starts = [message for message in messages if isinstance(message, SessionStarted)]
    assert [start.resumed for start in starts] == [False, False]
    assert words(messages) == UNDISTURBED
    assert len({final.segment_id for final in finals(messages)}) == len(finals(messages))
    for mine, theirs in zip(finals(messages), finals(expected), strict=True):
        assert (mine.start_ms, mine.end_ms, mine.words) == (
            pytest.approx(theirs.start_ms),
            pytest.approx(theirs.end_ms),
            tuple(
                replace(word, start_s=pytest.approx(word.start_s), end_s=pytest.approx(word.end_s))
                for word in theirs.words
            ),
        )
    assert ending(messages) == ending(expected)


async def test_little_is_kept_even_of_long_silence() -> None:
    audio = np.concatenate([np.zeros(16_000 * 200, np.int16), AUDIO])
    async with talking_server() as port:
        client = quick(f"http://127.0.0.1:{port}", max_buffer_s=60)
        messages = await talk(client, audio)
    assert words(messages) == "w1 w2 w3 w4 w5 w6 w7 w8"  # the flush was in the silence


async def test_a_sender_waits_for_what_nobody_acknowledges() -> None:
    async with talking_server() as port:
        client = quick(f"http://127.0.0.1:{port}", max_buffer_s=60)
        async with client:
            for _ in range(61):
                await client.send_audio(np.zeros(16_000, np.int16))
            sender = asyncio.create_task(client.send_audio(np.zeros(16_000, np.int16)))
            await asyncio.sleep(0.1)
            assert client._outbox.held_s == 61
            assert not sender.done()
            sender.add_done_callback(lambda _: asyncio.ensure_future(client.end()))
            messages = [message async for message in client]
            await sender
    assert messages[-1] == ended("completed", 62_000.0, 0, messages[-1].session_id)


async def test_it_gives_up_after_its_time_and_says_why() -> None:
    async with talking_server() as port, CuttingProxy([port]) as proxy:
        client = quick(proxy.url, give_up_after_s=0.3)
        async with client:
            messages = aiter(client)
            assert isinstance(await anext(messages), SessionStarted)
            proxy.close()
            with pytest.raises(GaveUp, match=r"0\.3 s.*No server answers") as given_up:
                await anext(messages)
            assert isinstance(given_up.value.last, ServerUnreachable)
            with pytest.raises(ConnectionLost, match="over"):
                await client.send_audio(AUDIO)


async def test_a_full_replica_is_asked_again() -> None:
    async with talking_speech() as speech, talking_server(speech=speech) as port:
        limits, full = speech._limits, dataclasses.replace(speech._limits, max_sessions=0)
        async with CuttingProxy([port], [Cut(True, 200_000)]) as proxy:
            client, messages, num_starts = quick(proxy.url), [], 0
            async with client, asyncio.timeout(60):
                sender = asyncio.create_task(say(client))
                async for message in client:
                    messages.append(message)
                    if isinstance(message, SessionStarted):
                        num_starts += 1
                        speech._limits = full
                        asyncio.get_running_loop().call_later(0.5, setattr, speech, "_limits", limits)
                await sender
    assert num_starts == 2
    assert proxy.num_connections > 3
    assert words(messages) == UNDISTURBED


async def test_the_first_connection_is_tried_once() -> None:
    with pytest.raises(ServerUnreachable):
        await quick(f"http://127.0.0.1:{free_ports(1)[0]}").__aenter__()


async def test_a_refused_first_session_says_why(speech_server: str) -> None:
    with pytest.raises(SessionFailed, match="in use"):
        await quick(speech_server, session_id="taken").__aenter__()
    with pytest.raises(RequestFailed):
        await quick(speech_server + "/elsewhere").__aenter__()


async def test_a_server_without_tickets_is_a_plain_session(speech_server: str) -> None:
    messages = await talk(quick(speech_server), AUDIO[: 1600 * 90])
    assert isinstance(messages[-1], SessionEnded)
    client = quick(speech_server, SessionConfig(prompt="drop"))
    with pytest.raises(ConnectionLost):
        await talk(client)
    assert client._outbox.held_s < len(AUDIO) / 16_000


async def test_cancel_ends_at_once() -> None:
    async with talking_server() as port:
        client = quick(f"http://127.0.0.1:{port}")
        async with client:
            await client.send_audio(AUDIO)
            await client.cancel()
            messages = [message async for message in client]
    assert isinstance(messages[-1], SessionEnded)
    assert messages[-1].reason == "cancelled"


async def test_the_audio_sources_own_error_comes_through() -> None:
    async def broken() -> AsyncGenerator[Pcm16, None]:
        yield AUDIO[:16_000]
        raise OSError("microphone unplugged")

    async with talking_server() as port:
        with pytest.raises(OSError, match="unplugged"):
            async for _ in stream_audio(broken(), url=f"http://127.0.0.1:{port}", config=CONFIG):
                pass


def test_half_a_minute_of_buffer_is_too_little() -> None:
    with pytest.raises(ValueError, match="at least 60"):
        ResumingClient(max_buffer_s=30)


def test_blocking_from_an_ordinary_iterator(speech_server: str) -> None:
    chunks = [np.zeros(1600, np.int16), bytes(3200)]
    messages = list(blocking.stream_audio(chunks, url=speech_server))
    assert isinstance(messages[0], SessionStarted)
    partials = [message.end_ms for message in messages if isinstance(message, PartialTranscript)]
    assert partials == [100.0, 200.0]
    assert isinstance(messages[-1], SessionEnded)
