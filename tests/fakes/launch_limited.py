"""Serve the doors with limits on a cluster of their own, until the input ends.

    python launch_limited.py PORT SETTINGS

Prints one JSON line once they answer: their address.
"""

from __future__ import annotations

import json
import sys

from serve_app.launch.deploy_config import for_one_machine
from serve_app.launch.serving import running_service

CONFIG = {
    "applications": [{"name": "limited", "import_path": "fakes.limited_graph:build", "route_prefix": "/"}]
}


def main() -> None:
    config = for_one_machine(
        CONFIG, host="127.0.0.1", port=int(sys.argv[1]), settings=json.loads(sys.argv[2])
    )
    with running_service(config, progress=lambda line: print(line, file=sys.stderr, flush=True)) as service:
        print(json.dumps({"url": service.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
