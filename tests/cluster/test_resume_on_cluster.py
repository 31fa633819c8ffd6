"""A session whose ingress replica is killed three times in the middle of an utterance: no word changes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from benchmarks.service import ServiceUnderTest
from cluster.conftest import clip, kill_ingress, reference, word_error_rate
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import (
    FinalTranscript,
    Message,
    SessionEnded,
    SessionStarted,
    VadEvent,
)
from sotto_client.pacing import paced_chunks
from sotto_client.resuming import ResumingClient

pytestmark = [pytest.mark.cluster, pytest.mark.models]

CONFIG = SessionConfig(lang_code="en")
KILL_AFTER_FINALS = (1, 3, 5)


@dataclass(frozen=True)
class Kill:
    """Due in mid-utterance: once the audio until `at_ms` was sent, `after_finals` finals came, and
    speech was heard since."""

    at_ms: float
    after_finals: int


def kills_within(undisturbed: Sequence[FinalTranscript]) -> list[Kill]:
    """One in the middle of each of the utterances behind `KILL_AFTER_FINALS`."""
    return [
        Kill((undisturbed[number].start_ms + undisturbed[number].end_ms) / 2, number)
        for number in KILL_AFTER_FINALS
    ]


class Talk:
    """One session over a clip. No audio is sent beyond the place of a kill before it is done, so that it hits
    the same utterance however slow the service is."""

    def __init__(self, service: ServiceUnderTest, kills: Sequence[Kill] = ()) -> None:
        self.service = service
        self.kills = list(kills)
        self.messages: list[Message] = []
        self.outages_s: list[float] = []
        self._is_down = False
        self._sent_ms = 0.0
        self._go_on = asyncio.Event()

    async def run(self, name: str, speed: float) -> Talk:
        async with ResumingClient(self.service.url, CONFIG) as client:
            sender = asyncio.create_task(self._send(client, name, speed))
            async for message in client:
                if isinstance(message, SessionStarted) and message.resumed:
                    self.outages_s[-1] = asyncio.get_running_loop().time() - self.outages_s[-1]
                    self._is_down = False
                self.messages.append(message)
                await self._kill_if_due()
            sender.cancel()  # it waits for a kill where the session ended before its time
            await asyncio.gather(sender, return_exceptions=True)
        return self

    async def _send(self, client: ResumingClient, name: str, speed: float) -> None:
        async for chunk in paced_chunks(clip(name), speed=speed):
            await client.send_audio(chunk)
            self._sent_ms += len(chunk) / 16
            while self.kills and self._sent_ms >= self.kills[0].at_ms:
                self._go_on.clear()
                await self._kill_if_due()
                if self.kills and self._sent_ms >= self.kills[0].at_ms:
                    await self._go_on.wait()
        await client.end()

    async def _kill_if_due(self) -> None:
        if self._is_down or not self.kills or self._sent_ms < self.kills[0].at_ms:
            return
        heard = [message.state for message in self.messages if isinstance(message, VadEvent)]
        if len(self.finals) < self.kills[0].after_finals or heard[-1:] != ["speech_start"]:
            return
        self._is_down = True
        self.kills.pop(0)
        self.outages_s.append(asyncio.get_running_loop().time())
        await asyncio.to_thread(kill_ingress, self.service)
        self._go_on.set()

    @property
    def finals(self) -> list[FinalTranscript]:
        return [message for message in self.messages if isinstance(message, FinalTranscript)]


def ending(talk: Talk) -> SessionEnded:
    """The last message, without the session's own name."""
    last = talk.messages[-1]
    assert isinstance(last, SessionEnded)
    return replace(last, session_id="")


async def test_three_kills_of_the_ingress_in_one_session_change_no_word(service: ServiceUnderTest) -> None:
    undisturbed = await Talk(service).run("visit", speed=2.0)
    killed = await Talk(service, kills_within(undisturbed.finals)).run("visit", speed=2.0)
    print(f"resumed after {[round(s, 1) for s in killed.outages_s]} s", file=sys.stderr)
    assert len(killed.outages_s) == len(KILL_AFTER_FINALS)
    assert not killed.kills
    assert [final.text for final in killed.finals] == [final.text for final in undisturbed.finals]
    for mine, theirs in zip(killed.finals, undisturbed.finals, strict=True):
        assert (mine.segment_id, mine.start_ms, mine.end_ms) == (
            theirs.segment_id,
            theirs.start_ms,
            theirs.end_ms,
        )
        assert len(mine.ticket) < 400
    assert word_error_rate(reference("visit"), " ".join(final.text for final in killed.finals)) <= 0.12
    assert ending(killed) == ending(undisturbed)
    assert isinstance(killed.messages[-1], SessionEnded)
    assert killed.messages[-1].reason == "completed"


async def test_a_bad_ticket_leaves_the_socket_open_for_a_fresh_start(service: ServiceUnderTest) -> None:
    async with LiveClient(service.url) as client:
        await client._send(json.dumps({"type": "start_session", "resume": "no ticket"}))
        refused = await client.receive()
        started = await client.start(CONFIG)
        await client.cancel()
    assert (getattr(refused, "code", None), getattr(refused, "retryable", None)) == ("INVALID_TICKET", False)
    assert not started.resumed
    assert started.ticket
