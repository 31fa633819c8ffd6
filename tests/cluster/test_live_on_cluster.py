"""Live sessions on the real graph: several at once, and a replica killed in the middle of an utterance."""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks.service import ServiceUnderTest
from cluster.conftest import clip, reference, word_error_rate
from cluster.talking import finals, stream, stream_while_killed, text
from serve_app.launch.processes import process_title, processes_of
from serve_app.speakers.host import CPU_NICENESS
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import PartialTranscript, SessionEnded, VadEvent

pytestmark = [pytest.mark.cluster, pytest.mark.models]

CLIPS = ("visit", "ward_round", "phone_call", "dictation", "short_0", "short_1", "short_2", "short_5")


async def test_eight_sessions_with_different_clips_at_once(service: ServiceUnderTest) -> None:
    results = await asyncio.gather(*(stream(service, name) for name in CLIPS))
    for name, messages in zip(CLIPS, results, strict=True):
        assert word_error_rate(reference(name), text(messages)) <= 0.12, name
        ended = messages[-1]
        assert isinstance(ended, SessionEnded)
        assert (ended.reason, ended.total_segments) == ("completed", len(finals(messages)))
        assert ended.total_audio_ms == pytest.approx(len(clip(name)) / 16, abs=0.01)


async def test_events_of_one_session_in_their_order(service: ServiceUnderTest) -> None:
    messages = await stream(service, "phone_call")
    states = [message.state for message in messages if isinstance(message, VadEvent)]
    assert states == ["speech_start", "speech_end"] * (len(states) // 2)
    partials = [message for message in messages if isinstance(message, PartialTranscript)]
    assert partials
    for one, other in zip(partials, partials[1:], strict=False):
        if one.segment_id == other.segment_id:
            assert other.text[: one.stable_chars] == one.text[: one.stable_chars]
    assert [final.segment_id for final in finals(messages)] == sorted(
        final.segment_id for final in finals(messages)
    )
    last_s = 0.0
    for final in finals(messages):
        assert final.timing.model == "tiny.en"
        assert final.timing.inference_ms > 0
        for word in final.words:
            assert last_s <= word.start_s + 0.011
            assert word.start_s <= word.end_s <= len(clip("phone_call")) / 16_000
            last_s = word.start_s


def test_replicas_have_the_priority_of_other_processes_and_the_diarizer_less(
    service: ServiceUnderTest,
) -> None:
    assert service.runtime_dir is not None
    own = os.nice(0)
    niceness: dict[str, int] = {}  # the highest of a process's threads: Linux has one for each
    for process in processes_of(service.runtime_dir):
        values = [os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()]
        niceness[process_title(process)] = max(values)
    for deployment in ("Ingress", "Recogniser"):
        assert {value for title, value in niceness.items() if f":{deployment}" in title} == {own}
    lowered = {value for title, value in niceness.items() if ":Diarization" in title}
    # There is one where something tells speakers apart (`make speakers`).
    assert lowered <= {min(19, own + CPU_NICENESS)}
    assert bool(lowered) == (find_spec("pyannote") is not None)


async def test_killing_a_model_replica_mid_utterance_changes_no_word(service: ServiceUnderTest) -> None:
    undisturbed = text(await stream(service, "visit", speed=3.0))
    messages = await stream_while_killed(service, "visit", "Recogniser")
    assert text(messages) == undisturbed
    ended = messages[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.total_audio_ms == pytest.approx(len(clip("visit")) / 16, abs=0.01)


async def test_audio_faster_than_real_time_is_slowed_and_kept(service: ServiceUnderTest) -> None:
    """Seven minutes at once, 80 MB as 48 kHz floats: more than the kernel's buffers on the way can hold, so
    the sender waits for the server, whose memory does not grow with what is sent."""
    rounds = 20
    assert service.runtime_dir is not None
    ingress = next(p for p in processes_of(service.runtime_dir) if ":Ingress" in process_title(p))
    before_bytes, most_bytes = ingress.memory_info().rss, 0
    audio = np.repeat(clip("phone_call").astype("<f4") / 32768, 3).tobytes()
    loop = asyncio.get_running_loop()
    async with LiveClient(service.url) as client:
        await client.start(SessionConfig(lang_code="en", encoding="float32", sample_rate=48_000))
        began_s = loop.time()
        sent_s = 0.0

        async def send() -> None:
            nonlocal sent_s, most_bytes
            for _ in range(rounds):
                for start in range(0, len(audio), 192_000):
                    await client.send_audio(audio[start : start + 192_000])
                most_bytes = max(most_bytes, ingress.memory_info().rss)
            sent_s = loop.time() - began_s
            await client.end()

        sender = asyncio.create_task(send())
        messages = [message async for message in client]
        await sender
    total_s = loop.time() - began_s
    assert word_error_rate(" ".join([reference("phone_call")] * rounds), text(messages)) <= 0.1
    ended = messages[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.total_audio_ms == pytest.approx(rounds * len(clip("phone_call")) / 16, abs=1)
    assert sent_s > 0.5 * total_s
    assert most_bytes - before_bytes < 40_000_000
