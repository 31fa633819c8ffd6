"""Tickets that come with what is learned of speakers, and those that ask for audio again because of them."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fakes.app_server import running_app
from fakes.cutting_proxy import Cut, CuttingProxy
from fakes.speech_server import final_message
from fakes.talk import Say, speak
from fakes.talking_server import talking_server
from sotto_client.continued import continued
from sotto_client.live import SessionConfig
from sotto_client.messages import FinalTranscript, Message, SpeakerRevision, parse_message
from sotto_client.resuming import ResumingClient

pytestmark = pytest.mark.slow

SAMPLES = np.zeros(32_000, np.int16)


def revision_message(segment: str, ticket: str = "", sample: int = 0) -> dict[str, object]:
    point = {"resume_from_samples": sample, "ticket": ticket} if ticket else {}
    said = {"session_id": "s", "segment_id": segment, "start_ms": 0.0, "end_ms": 10.0}
    return {"type": "speaker_revision", **said, "speaker": "SPEAKER_01", "words": None} | point


class Script:
    """Says `first` once it has all audio and hangs up, then `second` on the next connection, and ends."""

    def __init__(self, first: list[dict[str, object]], second: list[dict[str, object]]) -> None:
        self.said = [first, second]
        self.starts: list[dict[str, object]] = []
        self.num_bytes: list[int] = []

    def app(self) -> Starlette:
        return Starlette(routes=[WebSocketRoute("/ws/stt", self._live)])

    async def _live(self, socket: WebSocket) -> None:
        await socket.accept()
        start = json.loads(await socket.receive_text())
        self.starts.append(start)
        sample = {"two": 16_000, "three": 24_000}.get(start["resume"], 0)
        point = {
            "resumed": bool(start["resume"]),
            "resume_from_samples": sample,
            "ticket": start["resume"] or "one",
        }
        await socket.send_json({"type": "session_started", "session_id": "s", **point})
        num_bytes = 0
        while num_bytes < 2 * (len(SAMPLES) - sample):
            num_bytes += len((await socket.receive()).get("bytes") or b"")
        self.num_bytes.append(num_bytes)
        for message in self.said[len(self.starts) - 1]:
            await socket.send_json(message)
        if len(self.starts) == 2:
            ended = {"reason": "completed", "total_audio_ms": 2000.0, "total_segments": 2}
            await socket.send_json({"type": "session_ended", "session_id": "s", **ended})
        await socket.close(1012)


async def conversation(script: Script) -> list[Message]:
    with running_app(script.app()) as port:
        client = ResumingClient(
            f"http://127.0.0.1:{port}", SessionConfig(diarization=True), first_pause_s=0.001
        )
        async with client, asyncio.timeout(60):
            await client.send_audio(SAMPLES)
            return [message async for message in client]


def told(messages: list[Message]) -> list[tuple[type, str]]:
    kinds = FinalTranscript | SpeakerRevision
    return [(type(message), message.segment_id) for message in messages if isinstance(message, kinds)]


def final(segment: str, ticket: str, sample: int) -> dict[str, object]:
    message = final_message("hello", 1000.0 * int(segment[-1]), segment)
    return message | {"resume_from_samples": sample, "ticket": ticket}


@pytest.mark.parametrize(
    ("first", "resumed_with", "num_samples"),
    [
        ([final("seg-1", "two", 16_000), revision_message("seg-1", "three", 24_000)], "three", 8_000),
        ([final("seg-1", "older", 16_000), revision_message("seg-1", "two", 16_000)], "two", 16_000),
        ([final("seg-1", "three", 24_000), revision_message("seg-1", "stale", 8_000)], "three", 8_000),
        ([final("seg-1", "two", 16_000), revision_message("seg-1")], "two", 16_000),
    ],
)
async def test_the_newest_ticket_that_can_be_used_goes_on(
    first: list[dict[str, object]], resumed_with: str, num_samples: int
) -> None:
    script = Script(first, [final("seg-2", "four", 32_000)])
    messages = await conversation(script)
    assert [start["resume"] for start in script.starts][1:] == [resumed_with]
    assert script.num_bytes[1] == 2 * num_samples
    revised = (SpeakerRevision, "seg-1")
    assert told(messages) == [(FinalTranscript, "seg-1"), revised, (FinalTranscript, "seg-2")]


async def test_finals_that_want_the_same_audio_again_are_all_told_once() -> None:
    """Nobody knows their speakers yet, so that all of them go on from the first of them."""
    first = [final("seg-1", "a", 0), final("seg-2", "b", 0), revision_message("seg-1", "two", 16_000)]
    again = [final("seg-2", "c", 16_000), final("seg-3", "four", 32_000)]
    messages = await conversation(Script(first, again))
    assert told(messages) == [
        (FinalTranscript, "seg-1"),
        (FinalTranscript, "seg-2"),
        (SpeakerRevision, "seg-1"),
        (FinalTranscript, "seg-3"),
    ]


def test_a_revision_of_a_session_that_goes_on_from_another() -> None:
    revised = parse_message(revision_message("seg-1"))
    assert isinstance(revised, SpeakerRevision)
    later = replace(revised, segment_id="seg-1.2", start_ms=500.0, end_ms=510.0)
    assert continued(revised, 2, 500.0, 3) == later


async def test_audio_of_several_channels_is_counted_in_frames() -> None:
    client = ResumingClient(config=SessionConfig(channels=2))
    with pytest.raises(ValueError, match="multiple of 4"):
        await client.send_audio(b"\0\0")


DIALOGUE = speak(
    [
        Say(1, ms=900), Say(2, pause_ms=900), Say(101, ms=900), Say(102, pause_ms=900),
        Say(3, ms=1200, pause_ms=1200), Say(103, ms=1500), Say(4, ms=1500, pause_ms=900),
        Say(104, ms=1500, pause_ms=900),
    ]
)  # fmt: skip
"""Two voices, who take turns between utterances and within one."""


async def dialogue(url: str) -> list[FinalTranscript]:
    """The finals of it, as they are attributed in the end."""
    config = SessionConfig(lang_code="en", partial_interval_ms=100, diarization=True)
    finals: dict[str, FinalTranscript] = {}
    client = ResumingClient(url, config, first_pause_s=0.001, max_pause_s=0.01)
    async with client, asyncio.timeout(60):
        for start in range(0, len(DIALOGUE), 1600):
            await client.send_audio(DIALOGUE[start : start + 1600])
        await client.end()
        async for message in client:
            if isinstance(message, FinalTranscript):
                assert message.segment_id not in finals
                finals[message.segment_id] = message
            elif isinstance(message, SpeakerRevision):
                finals[message.segment_id] = message.applied_to(finals[message.segment_id])
    return list(finals.values())


@pytest.mark.parametrize(
    "cuts",
    [[Cut(True, 150_000)], [Cut(False, 3_000), Cut(True, 200_000)], [Cut(True, 90_000), Cut(False, 4_000)]],
)
async def test_however_connections_are_cut_the_speakers_are_the_same(cuts: list[Cut]) -> None:
    async with talking_server() as one, talking_server() as other:
        async with CuttingProxy([one]) as straight:
            expected = await dialogue(straight.url)
        async with CuttingProxy([one, other], cuts) as proxy:
            finals = await dialogue(proxy.url)
            assert proxy.num_connections > 1
    assert {final.speaker for final in expected} == {"SPEAKER_01", "SPEAKER_02"}
    assert [(final.text, final.speaker) for final in finals] == [
        (final.text, final.speaker) for final in expected
    ]
