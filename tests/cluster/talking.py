"""One client that sends a committed clip, and what it was told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import psutil

from benchmarks.service import ServiceUnderTest
from cluster.conftest import clip
from serve_app.launch.processes import process_title, processes_of
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import FinalTranscript, Message

CONFIG = SessionConfig(lang_code="en")


async def stream(
    service: ServiceUnderTest,
    name: str,
    *,
    speed: float = 2.0,
    session_id: str | None = None,
    on_final: Callable[[], None] = lambda: None,
) -> list[Message]:
    """Send a clip in 100 ms chunks at `speed` times real time; everything the server says."""
    audio = clip(name)
    async with LiveClient(service.url) as client:
        await client.start(CONFIG, session_id=session_id)

        async def send() -> None:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            for number, start in enumerate(range(0, len(audio), 1600)):
                await asyncio.sleep(max(0.0, began_s + number * 0.1 / speed - loop.time()))
                await client.send_audio(audio[start : start + 1600])
            await client.end()

        sender = asyncio.create_task(send())
        messages = []
        async for message in client:
            messages.append(message)
            if isinstance(message, FinalTranscript):
                on_final()
        await sender
    return messages


async def stream_while_killed(service: ServiceUnderTest, name: str, deployment: str) -> list[Message]:
    """`stream` at three times real time; after the first final a replica of `deployment` is killed."""
    spoken = asyncio.Event()

    async def kill() -> None:
        await spoken.wait()
        assert service.runtime_dir is not None
        processes = processes_of(service.runtime_dir)
        victims = [process for process in processes if f":{deployment}" in process_title(process)]
        assert victims, [process_title(process) for process in processes]
        os.kill(victims[0].pid, signal.SIGKILL)
        psutil.wait_procs(victims[:1], timeout=60)

    messages, _ = await asyncio.gather(stream(service, name, speed=3.0, on_final=spoken.set), kill())
    return messages


def finals(messages: list[Message]) -> list[FinalTranscript]:
    return [message for message in messages if isinstance(message, FinalTranscript)]


def text(messages: list[Message]) -> str:
    return " ".join(final.text for final in finals(messages))
