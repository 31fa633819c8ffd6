"""`serve_config.yaml` as a stranger starts it, on a machine whose GPU is only pretended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.conftest import SPOKEN, clip, reference, word_error_rate
from serve_app.launch.cluster import free_ports
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import FinalTranscript, PartialTranscript
from sotto_client.recordings import UploadOptions, transcribe_file

pytestmark = [pytest.mark.cluster, pytest.mark.models]

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 600
MODELS = {"STT_INTERIM_MODEL": "small", "STT_FINAL_MODEL": "large-v3-turbo"}


@dataclass(frozen=True)
class Served:
    url: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """`sotto serve --profile gpu` with one pretended GPU and models that cannot be had."""
    port = free_ports(1)[0]
    # As a stranger's shell: whatever this one says of Ray stays out.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    arguments = ["serve", "--profile", "gpu", "--num-gpus", "1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "serve_app.cli", *arguments],
        cwd=ROOT,
        env={**environment, "STT_OFFLINE": "true", **MODELS},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_ready(url, process)
        yield Served(url, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(120)
        assert process.stdout is not None
        process.stdout.close()


def _wait_ready(url: str, process: subprocess.Popen[str]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(f"{url}/health/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    process.kill()
    pytest.fail(f"not ready: {process.communicate()[0][-3000:]}")


async def test_models_that_cannot_be_had_are_replaced_and_named(served: Served) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{served.url}/health/status", timeout=60) as answer:
        models = json.load(answer)["models"]
    assert {model["name"] for model in models if model["role"] == "interim"} == {"tiny.en"}
    assert {model["name"] for model in models if model["role"] == "final"} == {"base"}
    assert {model["device"] for model in models} == {"cpu"}


async def test_it_transcribes_live_and_uploaded(served: Served) -> None:
    audio = clip("phone_call")
    async with LiveClient(served.url) as client:
        await client.start(SessionConfig(lang_code="en"))

        async def send() -> None:
            for start in range(0, len(audio), 1600):
                await client.send_audio(audio[start : start + 1600])
                await asyncio.sleep(0.05)
            await client.end()

        sender = asyncio.create_task(send())
        messages = [message async for message in client]
        await sender
    said = " ".join(message.text for message in messages if isinstance(message, FinalTranscript))
    assert word_error_rate(reference("phone_call"), said) <= 0.08
    assert [message for message in messages if isinstance(message, PartialTranscript)]
    answer = await transcribe_file(
        SPOKEN / "phone_call.flac", url=served.url, options=UploadOptions(language="en")
    )
    assert word_error_rate(reference("phone_call"), answer.transcript) <= 0.08


def test_it_stops_when_asked_to(served: Served) -> None:
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 0
