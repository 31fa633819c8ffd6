"""A replica whose model hangs, or writes nonsense, is replaced by Serve, and no session loses a word to it.

A cluster of its own: its recogniser runs an engine that turns bad on command, and the voice detector has a
deployment, as on GPUs.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.service import ServiceUnderTest
from cluster.own_process import service_in_own_process
from cluster.talking import finals, stream, stream_while_killed, text
from fakes import moody_engine
from serve_app.launch.processes import process_title, processes_of
from sotto_client.messages import SessionEnded

pytestmark = [pytest.mark.cluster, pytest.mark.models, pytest.mark.slow]

PATIENCE_S = 180


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mood") / "mood"


@pytest.fixture(scope="module")
def moody(mood: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceUnderTest]:
    folder = tmp_path_factory.mktemp("engine")
    moody_engine.install(folder, mood)
    before = os.environ.get("PYTHONPATH", "")
    sys.path.insert(0, str(folder))  # the process of the service begins with ours, Ray's with the variable
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), before]))
    try:
        settings = {
            "model": "tiny.en",
            "language": "en",
            "engine": moody_engine.NAME,
            "idle_timeout_s": 300,
            "vad_placement": "deployment",
        }
        with service_in_own_process(settings) as running:
            yield running
    finally:
        os.environ["PYTHONPATH"] = before
        sys.path.remove(str(folder))


def recognisers(service: ServiceUnderTest) -> list[psutil.Process]:
    assert service.runtime_dir is not None
    return [p for p in processes_of(service.runtime_dir) if ":Recogniser" in process_title(p)]


async def replaced(service: ServiceUnderTest, before: psutil.Process) -> None:
    """Wait until Serve has ended this process and begun another."""
    async with asyncio.timeout(PATIENCE_S):
        while before.is_running() or not recognisers(service):
            await asyncio.sleep(0.5)


async def test_a_model_that_hangs_mid_utterance_changes_no_word(moody: ServiceUnderTest, mood: Path) -> None:
    undisturbed = text(await stream(moody, "visit", speed=3.0))
    spoken, (victim,) = asyncio.Event(), recognisers(moody)

    async def hang() -> None:
        await spoken.wait()
        await asyncio.to_thread(mood.write_text, f"hang {victim.pid}")
        await replaced(moody, victim)

    messages, _ = await asyncio.gather(stream(moody, "visit", speed=3.0, on_final=spoken.set), hang())
    assert text(messages) == undisturbed
    ended = messages[-1]
    assert isinstance(ended, SessionEnded)
    assert ended.total_segments == len(finals(messages))


async def test_a_killed_voice_detector_with_a_process_of_its_own_changes_no_word(
    moody: ServiceUnderTest,
) -> None:
    undisturbed = text(await stream(moody, "visit", speed=3.0))
    assert text(await stream_while_killed(moody, "visit", "VoiceActivity")) == undisturbed


async def test_a_model_that_writes_nonsense_is_found_out_while_it_is_idle(
    moody: ServiceUnderTest, mood: Path
) -> None:
    (victim,) = recognisers(moody)
    await asyncio.to_thread(mood.write_text, f"garbage {victim.pid}")
    await replaced(moody, victim)
    assert "pharmacy" in text(await stream(moody, "short_0")).lower()


def test_models_that_do_not_load_in_time_fail_the_start_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    settings = {"model": "tiny.en", "model_load_timeout_s": 0.01}
    with pytest.raises(RuntimeError, match="did not start"), service_in_own_process(settings):
        pass
    assert "tiny.en did not load within 0.01 s" in capfd.readouterr().err
