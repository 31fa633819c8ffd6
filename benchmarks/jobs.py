"""A long recording as a job while every process that works on it is killed, one after another.

    python -m benchmarks.jobs --minutes 30

The same recording is a job twice: undisturbed, then with `kill -9` of each kind of process in turn. Printed
are both times, whether the texts are the same, and how often each webhook came.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import threading
import time
import wave
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.clips import load_clips
from benchmarks.report import command_line, print_table
from benchmarks.service import ServiceUnderTest, say, service_under_test
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.launch.processes import kind_of, processes_of
from sotto_client.errors import RequestFailed, ServerUnreachable
from sotto_client.jobs import create_job, get_job, is_passing, wait_for_job
from sotto_client.recordings import UploadOptions
from sotto_client.wire import JobStatus

VICTIMS = ("Ingress", "Recogniser", "VoiceActivity", "controller", "haproxy")
STEP = 0.04
"""The share of the recording that is decoded between two deaths."""
SETTLE_S = 20.0
"""How long a second delivery of a webhook is waited for."""


def long_recording(path: Path, minutes: float) -> None:
    """The committed dialogues again and again, each time a little quieter, so that no window comes twice."""
    spoken = [clip.samples for clip in load_clips()]
    wanted, written, gain = int(minutes * 60 * SAMPLE_RATE_HZ), 0, 1.0
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        while written < wanted:
            for samples in spoken:
                file.writeframes((samples * gain).astype(np.int16).tobytes())
                written += len(samples)
            gain *= 0.98


@dataclass
class Receiver:
    """A client's server for webhooks: what came under which id."""

    url: str = ""
    came: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def times_by_id(self) -> Counter[str]:
        return Counter(webhook_id for webhook_id, _ in self.came)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the library's name
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.came.append((self.headers["webhook-id"], json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, slots=True)
class Run:
    """One job at its end, how long it took, and what was killed on the way."""

    job: JobStatus
    seconds: float
    killed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return str(self.job.result["transcript"])


def kill(runtime_dir: Path, kind: str) -> int:
    """SIGKILL to all processes of a kind; how many."""
    victims = []
    for process in processes_of(runtime_dir):
        with_title = " ".join(process.cmdline()) or process.name()
        if kind_of(with_title) == kind:
            victims.append(process)
            os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(victims, timeout=60)
    return len(victims)


async def run_job(
    service: ServiceUnderTest, recording: Path, hook: Receiver, victims: Sequence[str] = ()
) -> Run:
    """Queue it and wait for its end; kill one kind of process after each further step of progress."""
    began_s = time.monotonic()
    options = UploadOptions(language="en")
    job = await create_job(recording, url=service.url, options=options, webhook_url=hook.url)
    killed: list[str] = []
    for kind in victims:
        before = await _asked_patiently(service.url, job.job_id)
        at = before.progress if killed else 0.0
        while not (before.is_ended or (before.status == "running" and before.progress >= at + STEP)):
            await asyncio.sleep(0.2)
            before = await _asked_patiently(service.url, job.job_id)
        if before.is_ended:
            break
        assert service.runtime_dir is not None
        if kill(service.runtime_dir, kind):
            killed.append(kind)
            say(f"killed {kind} at {before.progress:.0%}, {time.monotonic() - began_s:.0f} s")
    ended = await wait_for_job(job.job_id, url=service.url)
    return Run(ended, time.monotonic() - began_s, tuple(killed))


async def _asked_patiently(url: str, job_id: str) -> JobStatus:
    """Asked again while the service does not answer: its processes are being killed."""
    while True:
        try:
            return await get_job(job_id, url=url)
        except (ServerUnreachable, RequestFailed) as error:
            if isinstance(error, RequestFailed) and not is_passing(error):
                raise
            await asyncio.sleep(0.5)


def main() -> int:
    parser = command_line("jobs", __doc__, with_json=False)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", default="tiny.en")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, receiving() as hook:
        recording = Path(folder) / "long.wav"
        long_recording(recording, asked.minutes)
        settings = {
            "model": asked.model,
            "jobs_database": f"sqlite:///{folder}/jobs.db",
            "jobs_storage_path": f"{folder}/audio",
            "outbound_networks": "127.0.0.0/8",
            "vad_placement": "deployment",
        }
        with service_under_test(None, settings=settings) as service:
            undisturbed = asyncio.run(run_job(service, recording, hook))
            say(f"undisturbed: {undisturbed.job.status} after {undisturbed.seconds:.0f} s")
            disturbed = asyncio.run(run_job(service, recording, hook, VICTIMS))
            time.sleep(SETTLE_S)
    same = undisturbed.text == disturbed.text
    times = set(hook.times_by_id.values())
    print_table(
        "A job whose processes are killed",
        [
            ("recording", f"{asked.minutes:g} min, {asked.model}"),
            ("undisturbed", f"{undisturbed.job.status}, {undisturbed.seconds:.0f} s"),
            ("disturbed", f"{disturbed.job.status}, {disturbed.seconds:.0f} s"),
            ("killed", ", ".join(disturbed.killed)),
            ("texts", f"{'the same' if same else 'DIFFERENT'}, {len(disturbed.text.split())} words"),
            ("webhooks", f"{len(hook.times_by_id)} ids, each {times} times"),
        ],
    )
    return 0 if same and disturbed.killed == VICTIMS and times == {1} else 1


if __name__ == "__main__":
    sys.exit(main())
