"""One real Ray cluster with the CPU graph for the whole run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest

from benchmarks.scoring import word_errors
from benchmarks.service import ServiceUnderTest
from cluster.own_process import service_in_own_process
from serve_app.audio.recordings import decode_recording
from serve_app.core.samples import Pcm16
from serve_app.launch.cluster import free_ports
from serve_app.launch.processes import process_title, processes_of

# These tests are about the way there and back. A slow machine that refuses sessions is right, and no fault.
LIMITS = {"STT_MAX_SESSIONS": "100", "STT_MAX_ESTIMATED_SERVER_TOTAL_MS": "60000"}
os.environ.update(LIMITS)

SPOKEN = Path(__file__).resolve().parents[2] / "audio" / "spoken"


@pytest.fixture(scope="session")
def page_port() -> int:
    """Where tests serve web pages: the service lets in those of `http://127.0.0.1:` this."""
    return free_ports(1)[0]


@pytest.fixture(scope="session")
def service(page_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceUnderTest]:
    """The graph with `tiny.en` in both roles: what these tests are about is the way there and back."""
    kept = tmp_path_factory.mktemp("jobs")
    settings = {
        "model": "tiny.en",
        "language": "en",
        "idle_timeout_s": 120,
        "cors_origins": f"http://127.0.0.1:{page_port}",
        "jobs_database": f"sqlite:///{kept / 'jobs.db'}",
        "jobs_storage_path": str(kept / "audio"),
        "outbound_networks": "127.0.0.0/8",
    }
    with service_in_own_process(settings) as running:
        yield running


@cache
def clip(name: str) -> Pcm16:
    """A committed clip as 16 kHz samples."""
    return decode_recording((SPOKEN / f"{name}.flac").read_bytes(), max_samples=10_000_000).samples


@cache
def reference(name: str) -> str:
    manifest = json.loads((SPOKEN / "MANIFEST.json").read_text())
    return next(entry["text"] for entry in manifest if entry["file"] == f"{name}.flac")


def word_error_rate(expected: str, said: str) -> float:
    return word_errors([expected], [said]).rate


def kill_ingress(service: ServiceUnderTest) -> None:
    assert service.runtime_dir is not None
    victims = [p for p in processes_of(service.runtime_dir) if ":Ingress" in process_title(p)]
    assert victims
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    psutil.wait_procs(victims, timeout=60)
