import asyncio
import threading
import time

import numpy as np
import pytest

from serve_app.launch.cluster import free_ports
from sotto_client import blocking
from sotto_client.errors import ServerUnreachable
from sotto_client.live import SessionConfig
from sotto_client.live_streams import stream_samples
from sotto_client.messages import FinalTranscript, PartialTranscript, SessionEnded, SessionStarted
from sotto_client.pacing import paced_chunks


async def test_chunks_come_at_the_pace_of_a_microphone() -> None:
    samples = np.arange(4000, dtype=np.int16)
    started, arrivals, parts = time.perf_counter(), [], []
    async for chunk in paced_chunks(samples, chunk_ms=100):
        arrivals.append(time.perf_counter() - started)
        parts.append(chunk)
    assert [len(part) for part in parts] == [1600, 1600, 800]
    assert np.array_equal(np.concatenate(parts), samples)
    for arrival, due in zip(arrivals, (0.1, 0.2, 0.25), strict=True):
        assert due - 0.005 <= arrival


async def test_a_late_reader_gets_what_it_missed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(delay_s: float) -> None:
        raise AssertionError(f"waited {delay_s} s")

    monkeypatch.setattr(asyncio, "sleep", never)
    clock = iter([0.0, 10.0, 10.0, 10.0])
    chunks = [c async for c in paced_chunks(np.zeros(3200, np.int16), clock=lambda: next(clock))]
    assert len(chunks) == 2


async def test_stream_samples(speech_server: str) -> None:
    session = stream_samples(speech_server, np.zeros(3200, np.int16), chunk_ms=50, speed=10)
    messages = [message async for message in session]
    assert isinstance(messages[0], SessionStarted)
    assert [type(message) for message in messages[1:]] == [PartialTranscript] * 4 + [
        FinalTranscript,
        SessionEnded,
    ]


def test_blocking_iteration(speech_server: str) -> None:
    samples = np.zeros(3200, np.int16)
    messages = list(blocking.iterate(lambda: stream_samples(speech_server, samples, speed=10)))
    assert isinstance(messages[-1], SessionEnded)


def test_blocking_iteration_raises_what_the_session_raises() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(ServerUnreachable):
        list(blocking.iterate(lambda: stream_samples(url, np.zeros(1, np.int16))))


def test_leaving_a_blocking_iteration_early_ends_the_session(speech_server: str) -> None:
    """Of an hour of audio: going on to its end would be noticed."""
    samples = np.zeros(3600 * 16_000, np.int16)
    for _ in blocking.iterate(
        lambda: stream_samples(speech_server, samples, config=SessionConfig(lang_code="en"))
    ):
        break
    assert not [thread for thread in threading.enumerate() if thread.name == "sotto-client"]
