"""A long upload while it is on its way: its first text, memory, and what it does to live sessions.

    python -m benchmarks.text.long_upload --minutes 60 --sessions 0
    python -m benchmarks.text.long_upload --minutes 180 --sessions 8 --json out/beside.json

The recording is sent at `--pace` times real time (a client's network), its answer read meanwhile as NDJSON.
`first_segment_s` counts from when its first minute had been sent; below 0, it came before. With `--sessions`
live sessions talk for as long as the upload takes, and for a minute before it: `final_p95_ratio` compares the
two. `memory_mb` has, for each kind of process, what it held before and the most that it held since.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.clips import load_clips, session_plans
from benchmarks.jobs import long_recording
from benchmarks.live.load import run_load
from benchmarks.report import command, command_line, print_table, write_json
from benchmarks.scoring import Percentiles
from benchmarks.service import ServiceUnderTest, say, service_under_test, snapshot
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.launch.cluster import LaunchError

BYTES_PER_S = 2 * SAMPLE_RATE_HZ
HEADER_BYTES = 44
SAMPLING_S = 1.0
ALONE_S = 60.0
RAMP_S = 4.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("long_upload", __doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the recording")
    parser.add_argument("--pace", type=float, default=20.0, help="times real time at which it is sent")
    parser.add_argument("--sessions", type=int, default=0, help="live sessions beside it")
    parser.add_argument("--model", default="tiny.en")
    options = parser.parse_args(arguments)
    if options.minutes < 2 or options.pace <= 0 or options.sessions < 0:
        parser.error("--minutes must be 2 or more, --pace positive, --sessions not negative")
    return options


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Moments are seconds from the first byte."""

    minute_sent_s: float
    sent_s: float
    first_segment_s: float
    last_segment_s: float
    num_segments: int


async def upload(url: str, recording: Path, pace: float) -> Uploaded:
    """Send a WAV file at its pace, and read the answer meanwhile, which HTTP clients do not do."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    size = (await asyncio.to_thread(recording.stat)).st_size
    head = (
        "POST /transcribe?language=en&response_format=ndjson HTTP/1.1\r\n"
        f"host: {address.netloc}\r\ncontent-type: audio/wav\r\ncontent-length: {size}\r\n"
        "connection: close\r\n\r\n"
    )
    writer.write(head.encode())
    began_s = time.perf_counter()
    minute_sent_s = 0.0

    async def send() -> float:
        nonlocal minute_sent_s
        num_sent = 0
        with recording.open("rb") as file:
            while block := await asyncio.to_thread(file.read, BYTES_PER_S):
                due_s = began_s + num_sent / BYTES_PER_S / pace
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                writer.write(block)
                await writer.drain()
                num_sent += len(block)
                if not minute_sent_s and num_sent >= HEADER_BYTES + 60 * BYTES_PER_S:
                    minute_sent_s = time.perf_counter() - began_s
        return time.perf_counter() - began_s

    sending = asyncio.create_task(send())
    try:
        status = await reader.readline()
        segments_s = []
        async for line in reader:
            if line.startswith(b'{"id"'):
                segments_s.append(time.perf_counter() - began_s)
                if len(segments_s) == 1:
                    say(
                        f"first segment after {segments_s[0]:.2f} s, first minute sent at {minute_sent_s:.2f}"
                    )
            elif line.startswith(b"{"):
                raise ValueError(f"the answer says {line.decode().strip()}")
        if b" 200 " not in status or not segments_s:
            raise ValueError(f"the upload was answered with {status.decode().strip()}")
        sent_s = await sending
    finally:
        sending.cancel()
        writer.close()
    return Uploaded(minute_sent_s, sent_s, segments_s[0], segments_s[-1], len(segments_s))


@asynccontextmanager
async def peaks(service: ServiceUnderTest) -> AsyncIterator[dict[str, list[int]]]:
    """MB by kind of process: at the start, and the most since."""
    memory: dict[str, list[int]] = {}

    async def look() -> None:
        while True:
            found = (await asyncio.to_thread(snapshot, service.runtime_dir)).rss_bytes
            for kind, size in found.items():
                known = memory.setdefault(kind, [round(size / 1e6)] * 2)
                known[1] = max(known[1], round(size / 1e6))
            await asyncio.sleep(SAMPLING_S)

    looking = asyncio.create_task(look())
    try:
        yield memory
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def finals_beside(
    service: ServiceUnderTest, num_sessions: int, seconds: float
) -> tuple[Percentiles, list[str]]:
    """How late finals were, and what failed."""
    result = await run_load(
        service.url,
        session_plans(load_clips(), num_sessions, seconds),
        ramp_s=RAMP_S,
        steady_until_s=seconds,
        chunk_ms=100,
        language="en",
        measure=lambda: snapshot(service.runtime_dir),
    )
    failures = sorted({session.failure for session in result.sessions if session.failure})
    return Percentiles.of(ms for one in result.sessions for ms in one.final_latency_ms), failures


async def measure(service: ServiceUnderTest, recording: Path, options: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"audio_s": 60 * options.minutes, "model": options.model, "pace": options.pace}
    await upload(service.url, recording.with_name("warm_up.wav"), 1000.0)
    alone: Percentiles | None = None
    if options.sessions:
        say(f"{options.sessions} live sessions alone, {ALONE_S:.0f} s")
        alone, failures = await finals_beside(service, options.sessions, ALONE_S)
        result |= {"sessions": options.sessions, "final_ms_alone": alone.to_json(), "failures": failures}
    say("the upload")
    async with peaks(service) as memory:
        if alone is None:
            sent = await upload(service.url, recording, options.pace)
        else:
            uploading = asyncio.create_task(upload(service.url, recording, options.pace))
            latencies: list[Percentiles] = []
            while not uploading.done():
                beside, failures = await finals_beside(service, options.sessions, ALONE_S)
                latencies.append(beside)
                result["failures"] += failures
            sent = await uploading
            worst = max(latencies, key=lambda one: one.p95 or 0.0)
            result |= {
                "final_ms_beside": [one.to_json() for one in latencies],
                "final_p95_ratio": round((worst.p95 or 0.0) / (alone.p95 or 1.0), 3),
            }
    return result | {
        "first_segment_s": round(sent.first_segment_s - sent.minute_sent_s, 3),
        "sent_s": round(sent.sent_s, 1),
        "done_s": round(sent.last_segment_s, 1),
        "num_segments": sent.num_segments,
        "times_real_time": round(60 * options.minutes / sent.last_segment_s, 1),
        "memory_mb": dict(sorted(memory.items())),
    }


def show(result: dict[str, Any]) -> None:
    rows = [
        ("audio, s; sent within, s; done, s", f"{result['audio_s']}; {result['sent_s']}; {result['done_s']}"),
        ("first segment behind the first minute, s", f"{result['first_segment_s']:.2f}"),
        ("times real time", f"{result['times_real_time']:.1f}"),
    ]
    if "sessions" in result:
        beside = ", ".join(f"{one['p95']:.0f}" for one in result["final_ms_beside"])
        rows += [
            ("live sessions", str(result["sessions"])),
            ("p95 of finals alone, ms", f"{result['final_ms_alone']['p95']:.0f}"),
            ("beside the upload, minute by minute", beside),
            ("the worst over alone", f"{result['final_p95_ratio']:.2f}"),
        ]
    rows += [
        (f"  {kind}, MB before and at most", f"{before} {most}")
        for kind, (before, most) in result["memory_mb"].items()
    ]
    print_table("A long upload", rows)
    for failure in result.get("failures", ()):
        print(f"failed: {failure}")


@command(LaunchError, OSError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="sotto-bench-") as folder:
        recording = Path(folder) / "recording.wav"
        long_recording(recording, options.minutes)
        long_recording(recording.with_name("warm_up.wav"), 2.0)
        settings = {
            "model": options.model,
            "max_sessions": options.sessions + 1,
            "max_file_size_mb": recording.stat().st_size // 2**20 + 1,
            "max_audio_length_seconds": 60 * options.minutes + 600,
        }
        with service_under_test(None, settings=settings) as service:
            result = asyncio.run(measure(service, recording, options))
    show(result)
    write_json(options.json, result)
    return 1 if result.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
