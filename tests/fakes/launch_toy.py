"""Start the toy graph as the product would start its own, say so, and wait to be stopped.

    python launch_toy.py PORT [broken]

Prints one JSON line once it answers: its address and its runtime folder.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path

from serve_app.launch import cluster
from serve_app.launch.cluster import LaunchError
from serve_app.launch.deploy_config import for_one_machine
from serve_app.launch.environment import make_runtime_dir
from serve_app.launch.serving import start_service

CONFIG = {"applications": [{"name": "toy", "import_path": "fakes.toy_graph:build", "route_prefix": "/"}]}


def noted_runtime_dir() -> Path:
    """Also tells the test which folder must be gone after a failure."""
    path = make_runtime_dir()
    print(f"runtime folder {path}", file=sys.stderr, flush=True)
    return path


def main() -> None:
    cluster.make_runtime_dir = noted_runtime_dir  # type: ignore[assignment]
    broken = sys.argv[2:] == ["broken"]
    config = for_one_machine(
        CONFIG, host="127.0.0.1", port=int(sys.argv[1]), settings={"broken": True} if broken else None
    )
    stop = threading.Event()
    try:
        service = start_service(config, progress=lambda line: print(line, file=sys.stderr, flush=True))
    except LaunchError as error:
        sys.exit(str(error))
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print(json.dumps({"url": service.url, "runtime_dir": str(service.cluster.runtime_dir)}), flush=True)
    stop.wait()
    service.stop()


if __name__ == "__main__":
    main()
