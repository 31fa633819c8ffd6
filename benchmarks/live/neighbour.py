"""How late finals are beside a neighbour that burns every core, by the niceness of the service's processes.

    python -m benchmarks.live.neighbour --sessions 3 --seconds 35 --rounds 2 --json out/neighbour.json

Each round measures niceness 15, at which Ray starts its workers, and 0, at which `sotto serve` has it start
them, one after the other: a service of its own each time, and once it is ready as many busy loops at
niceness 0 as there are cores, beside live sessions in real time (`benchmarks.live.sessions`). `load_before`:
of this machine, before the loops.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.report import command, command_line, print_table, write_json
from benchmarks.service import say
from serve_app.capacity.machine import available_cores
from serve_app.launch.cluster import LaunchError, free_ports

NICENESSES = (15, 0)
READY_TIMEOUT_S = 420
STOP_TIMEOUT_S = 120
RUN_TIMEOUT_S = 600


@contextmanager
def serving(niceness: int) -> Iterator[str]:
    """`sotto serve` with workers of this niceness; yields its address. Raises `LaunchError`."""
    port = free_ports(1)[0]
    command = ["serve", "--port", str(port), "--model", "tiny.en", "--language", "en"]
    environment = {**os.environ, "RAY_worker_niceness": str(niceness)}
    server = subprocess.Popen([sys.executable, "-m", "serve_app.cli", *command], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_ready(url, server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            raise


def _wait_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    with httpx.Client(trust_env=False, timeout=5) as client:
        while server.poll() is None and time.monotonic() < deadline_s:
            try:
                if client.get(f"{url}/ready").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
    raise LaunchError("the service is not ready: it says above why")


@contextmanager
def burning(num_processes: int) -> Iterator[None]:
    """As many processes that do nothing but burn a core each."""
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num_processes)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def run(niceness: int, sessions: int, seconds: float, num_neighbours: int) -> dict[str, Any]:
    """One service at this niceness beside its neighbours. Raises `LaunchError`, `SubprocessError`."""
    with tempfile.TemporaryDirectory() as folder, serving(niceness) as url:
        load, result = os.getloadavg()[0], Path(folder) / "result.json"
        arguments = ["--url", url, "--alone-speed", "0"]
        arguments += ["--sessions", str(sessions), "--seconds", str(seconds)]
        with burning(num_neighbours):
            subprocess.run(
                [sys.executable, "-m", "benchmarks.live.sessions", *arguments, "--json", str(result)],
                stdout=subprocess.DEVNULL,
                timeout=RUN_TIMEOUT_S,
                check=False,  # sessions that failed are part of the result
            )
        measured = json.loads(result.read_text())
    finals = measured["final_latency_ms"]
    return {
        "niceness": niceness,
        "load_before": round(load, 2),
        "final_p50_ms": finals["p50"],
        "final_p95_ms": finals["p95"],
        "finals": measured["finals"],
        "sessions_failed": measured["sessions_failed"],
        "audio_dropped_ms": measured["audio_dropped_ms"],
    }


@command(LaunchError, OSError, subprocess.SubprocessError)
def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line("neighbour", __doc__)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=35.0, help="audio per session, at least")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--neighbours", type=int, default=available_cores(), help="0: none, to compare with")
    options = parser.parse_args(arguments)
    runs = []
    for _ in range(options.rounds):
        for niceness in NICENESSES:
            runs.append(run(niceness, options.sessions, options.seconds, options.neighbours))
            say(", ".join(f"{name} {value}" for name, value in runs[-1].items()))
    rows = [(f"niceness {one['niceness']}", f"{one['final_p50_ms']} / {one['final_p95_ms']}") for one in runs]
    print_table(f"finals of {options.sessions} sessions, ms (p50 / p95)", rows)
    write_json(options.json, {"neighbours": options.neighbours, "sessions": options.sessions, "runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
