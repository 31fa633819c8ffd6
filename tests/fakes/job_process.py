"""A process that works on jobs as an ingress replica does, with a made-up engine.

Every job that it begins is a line in a log of its own. It says `ready` there and begins once `go` is in its
folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import BinaryIO

from serve_app.jobs.addresses import OutboundRules
from serve_app.jobs.audio_files import StoredAudio
from serve_app.jobs.opening import open_store
from serve_app.jobs.outbound import Outbound
from serve_app.jobs.records import Job
from serve_app.jobs.threads import StoreThreads
from serve_app.jobs.worker import JobKind, Parts, Progress, Worker, WorkerLimits

NUM_PARTS = 3
PART_S = 0.005


async def work_on_jobs(address: str, folder: Path, log: Path) -> None:
    def say(line: str) -> None:
        with log.open("a") as file:
            file.write(f"{line}\n")

    async def work(job: Job, file: BinaryIO, parts: Parts, progress: Progress) -> bytes:
        say(f"begin {job.job_id}")
        text = file.read().decode()
        for part in range(NUM_PARTS):
            if parts.recall(str(part)) is None:
                await asyncio.sleep(PART_S)
                await parts.keep(str(part), text.encode())
            progress((part + 1) / NUM_PARTS)
        return json.dumps({"transcript": text}).encode()

    kind = JobKind(work, lambda job, result: json.dumps([job.job_id, job.state]).encode())
    store = StoreThreads(lambda: open_store(address))
    outbound = Outbound(OutboundRules())
    await store.call(lambda store: store.num_open())
    say("ready")
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
    limits = WorkerLimits(lease_s=3.0, renew_s=0.5, poll_s=0.05)
    await Worker(store, StoredAudio(str(folder / "audio")), outbound, {"native": kind}, limits).run()


if __name__ == "__main__":
    asyncio.run(work_on_jobs(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
