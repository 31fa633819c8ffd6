"""Plant words, audio and keys in a run of `sotto serve`, and search what the run wrote for them.

    python -m benchmarks.privacy                     strict: nothing may be found
    python -m benchmarks.privacy --privacy standard  what is found where nothing is asked for

Searched, while the service runs and after it has ended: its folders and logs (Ray's too), the log file and
the audit log, files of the machine's temporary folders and shared memory that were changed during the run,
open files without a name, command lines, metrics, traces, status pages and its output. Core dumps are allowed
as far as the shell can, and a recogniser is crashed. Ray's object store is told apart: it is memory that
processes share, of a file without a name in `/dev/shm`, and has the settings that replicas were started with,
keys too.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.privacy.collector import collecting
from benchmarks.privacy.leaky_engine import SAID_VARIABLE, install
from benchmarks.privacy.planting import Findings, Searcher, is_memory, planted_words
from benchmarks.privacy.traffic import Traffic
from benchmarks.report import command, command_line
from benchmarks.service import say
from serve_app.audio.recordings import decode_recording
from serve_app.launch.cluster import SOURCE_DIR, free_ports
from serve_app.launch.processes import processes_of

WORDS: Final = (
    *("prompt", "hotword", "keyterm", "tag", "filename", "sessionid", "requestid", "useragent", "said"),
    *("apikey", "wrongkey", "auditkey", "ticketsecret"),
)
CLIP: Final = SOURCE_DIR / "audio" / "spoken" / "short_1.flac"
NEEDLE_SAMPLES: Final = 64
START_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 120.0
EVERYWHERE: Final = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


class NoServer(RuntimeError):
    """`sotto serve` did not come up, or not down; the message has the end of its output."""


@dataclass(frozen=True, slots=True)
class Serving:
    url: str
    runtime_dir: Path
    output: Path


@command(NoServer)
def main() -> int:
    parser = command_line("benchmarks.privacy", __doc__)
    parser.add_argument("--privacy", choices=("strict", "standard"), default="strict")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="privacy-") as name:
        report = run(Path(name), args.privacy)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")
    _show(report)
    return 1 if report["hits"] and args.privacy == "strict" else 0


def run(scratch: Path, privacy: str) -> dict[str, Any]:
    """One run; `scratch` is empty."""
    began_s = time.time()
    words = planted_words(WORDS)
    audio = decode_recording(CLIP.read_bytes(), max_samples=10_000_000).samples
    middle = len(audio) // 2
    needles = {kind: word.encode() for kind, word in words.items()}
    needles["audio"] = audio[middle : middle + NEEDLE_SAMPLES].tobytes()
    searcher, found = Searcher(needles), Findings()
    install(scratch / "packages")
    with collecting() as traces, serving(scratch, privacy, words, traces.address) as service:
        traffic = Traffic(service.url, words, audio, _wav(audio.tobytes()))

        def look() -> None:
            time.sleep(1.0)  # what was sent has been taken, and stands still
            pids = [process.pid for process in processes_of(service.runtime_dir)]
            nonlocal found
            found += searcher.processes(pids)

        say("talking")
        asyncio.run(traffic.run())
        say("looking while an upload is under way")
        traffic.with_a_large_upload_in_flight(look)
        say("a recogniser dies")
        asyncio.run(traffic.die())
        say("searching")
        headers = {"authorization": f"Bearer {words['apikey']}"}
        for page in ("/metrics", "/health/status", "/"):
            found += searcher.data(
                page, httpx.get(service.url + page, headers=headers, trust_env=False).content
            )
        found += searcher.tree(service.runtime_dir)
        found += _everywhere(searcher, began_s, service.runtime_dir)
    for path, _, body in traces.requests:
        found += searcher.data(f"traces sent to {path}", body)
    found += searcher.file(service.output)
    found += _everywhere(searcher, began_s, scratch / "packages")
    log_lines = (scratch / "sotto.log").read_text().splitlines()
    return {
        "privacy": privacy,
        "num_requests": traffic.num_requests,
        "num_files": found.num_files,
        "num_bytes": found.num_bytes,
        "num_log_lines": len(log_lines),
        "num_trace_bytes": sum(len(body) for _, _, body in traces.requests),
        "num_audit_lines": sum(len(path.read_text().splitlines()) for path in scratch.glob("audit/*.jsonl")),
        "unreadable": sorted(set(found.unreadable)),
        "hits": _listed(found, scratch, service.runtime_dir, in_memory=False),
        "in_memory": _listed(found, scratch, service.runtime_dir, in_memory=True),
    }


def _listed(found: Findings, scratch: Path, runtime_dir: Path, *, in_memory: bool) -> list[dict[str, Any]]:
    return [
        {"where": _named(where, scratch, runtime_dir), "kind": kind, "num": num}
        for (where, kind), num in sorted(found.hits.items())
        if is_memory(where) is in_memory
    ]


@contextmanager
def serving(scratch: Path, privacy: str, words: Mapping[str, str], collector: str) -> Iterator[Serving]:
    """A `sotto serve` of its own, with keys from the environment, that sends its traces to `collector`.
    Raises `NoServer`."""
    work, temporary = scratch / "work", scratch / "tmp"
    work.mkdir()
    temporary.mkdir()
    port = free_ports(1)[0]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(SOURCE_DIR), str(SOURCE_DIR / "clients/python"), str(scratch / "packages")]
        ),
        "TMPDIR": str(temporary),
        "STT_PRIVACY": privacy,
        "STT_ENGINE": "leaky",
        "STT_LANGUAGE": "en",
        "STT_PORT": str(port),
        "STT_LOG_FILE": str(scratch / "sotto.log"),
        "STT_AUDIT_LOG_DIR": str(scratch / "audit"),
        "STT_AUDIT_KEY": words["auditkey"],
        "STT_API_KEY": words["apikey"],
        "STT_TICKET_SECRET": words["ticketsecret"],
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "RAY_AUTH_MODE": "token",
        SAID_VARIABLE: words["said"],
    }
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limit[1], limit[1]))
    output = scratch / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve_app.cli", "serve", "--profile", "cpu"],
            cwd=work, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield Serving(f"http://127.0.0.1:{port}", _runtime_dir(process, output), output)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise NoServer(f"it did not stop:\n{_end_of(output)}") from None


def _runtime_dir(process: subprocess.Popen[bytes], output: Path) -> Path:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if found := re.search(r"logs +(/\S+)/session_latest/logs", output.read_text(errors="replace")):
            return Path(found[1])
        threading.Event().wait(0.5)
    raise NoServer(f"it did not start:\n{_end_of(output)}")


def _everywhere(searcher: Searcher, since_s: float, *but: Path) -> Findings:
    found, spared = Findings(), {SOURCE_DIR, *but}
    cache = Path.home() / ".cache"
    for folder in (*EVERYWHERE, Path("/var/log"), Path("/var/lib/systemd/coredump"), cache):
        found += searcher.tree(folder, since_s=since_s, but=spared)
    return found


def _named(where: str, scratch: Path, runtime_dir: Path) -> str:
    return where.replace(str(scratch), "SCRATCH").replace(str(runtime_dir), "RUNTIME")


def _end_of(output: Path) -> str:
    return "\n".join(output.read_text(errors="replace").splitlines()[-30:])


def _wav(samples: bytes) -> bytes:
    size = len(samples)
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    layout = ((1, 2), (1, 2), (16_000, 4), (32_000, 4), (2, 2), (16, 2))
    shape = b"".join(value.to_bytes(width, "little") for value, width in layout)
    return head + shape + b"data" + size.to_bytes(4, "little") + samples


def _show(report: Mapping[str, Any]) -> None:
    print(
        f"privacy {report['privacy']}: {report['num_requests']} requests, {report['num_log_lines']} log and "
        f"{report['num_audit_lines']} audit lines, {report['num_trace_bytes']} bytes of traces; "
        f"{report['num_files']} files searched, "
        f"{report['num_bytes'] / 1e6:.1f} MB; {len(report['hits'])} places with planted words, audio or keys"
    )
    for hit in report["hits"]:
        print(f"  {hit['kind']:<12} {hit['num']:>4} times in {hit['where']}")
    for hit in report["in_memory"]:
        print(f"  {hit['kind']:<12} {hit['num']:>4} times in memory that processes share: {hit['where']}")
    for where in report["unreadable"]:
        print(f"  not readable: {where}")


if __name__ == "__main__":
    sys.exit(main())
