"""Deploys and asks Ray and Serve on the head, for a parent on another host; and that parent's end of it.

    ip netns exec HEAD python -m benchmarks.cluster.console HEAD_ADDRESS:6379

A line is a JSON object: `{"do": "nodes"}` in, `{"answer": ...}` or `{"error": ...}` out. Ends with its input.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.cluster.network import NetHost
from serve_app.launch.cluster import SOURCE_DIR

START_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 120.0
MODULE = "benchmarks.cluster.console"


class HostsError(RuntimeError):
    """The cluster did not come up or did not answer; the message says what was seen."""


class Console:
    """A process on the head that asks Ray and Serve for us; may be used from several threads."""

    def __init__(self, head: NetHost, gcs_address: str, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._turn = threading.Lock()
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                head.command(sys.executable, "-m", MODULE, gcs_address),
                env=dict(environment),
                cwd=SOURCE_DIR,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def wait_ready(self) -> None:
        """Raises `HostsError`."""
        self._read(START_TIMEOUT_S)

    def ask(self, command: str, **arguments: Any) -> Any:
        """The answer. Raises `HostsError`."""
        assert self._process.stdin is not None
        with self._turn:
            self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
            self._process.stdin.flush()
            return self._read(ANSWER_TIMEOUT_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read(self, timeout_s: float) -> Any:
        output = self._process.stdout
        assert output is not None
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            if not selector.select(timeout_s):
                raise HostsError(f"the console did not answer within {timeout_s:.0f} s")
        line = output.readline()
        if not line:
            raise HostsError(f"the console ended:\n{end_of(self._log)}")
        message = json.loads(line)
        if "error" in message:
            raise HostsError(message["error"])
        return message["answer"]


def end_of(log: Path, num_lines: int = 25) -> str:
    """The last lines of a log, empty where there is none."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:]) if log.is_file() else ""


Answer: TypeAlias = Any


def deploy(config: dict[str, Any]) -> Answer:
    """Hand a Serve config to the controller; what runs is changed to it."""
    from serve_app.launch.serving import deploy

    deploy(config)
    return None


def nodes() -> Answer:
    """Every node that ever was: id, address, whether it lives, what it has and what is left of that."""
    import ray
    from ray._private.state import available_resources_per_node

    left = available_resources_per_node()
    return [
        {
            "node_id": node["NodeID"],
            "address": node["NodeManagerAddress"],
            "alive": node["Alive"],
            "gpus": node["Resources"].get("GPU", 0.0),
            "gpus_left": left.get(node["NodeID"], {}).get("GPU", 0.0),
        }
        for node in ray.nodes()
    ]


def applications() -> Answer:
    """Name to status, message and, by deployment, status, wanted number and replicas."""
    import ray
    from ray import serve

    client = serve.context._get_global_client(raise_if_no_controller_running=True)
    details: dict[str, Any] = ray.get(client._controller.get_serve_instance_details.remote(), timeout=30)
    return {
        name: {
            "status": application["status"],
            "message": application["message"],
            "deployments": {
                deployment: {
                    "status": found["status"],
                    "message": found["message"],
                    "wanted": found["target_num_replicas"],
                    "num_gpus": (found["deployment_config"].get("ray_actor_options") or {}).get(
                        "num_gpus", 0
                    ),
                    "replicas": [
                        {
                            "replica_id": replica["replica_id"],
                            "state": replica["state"],
                            "address": replica.get("node_ip"),
                            "node_id": replica.get("node_id"),
                            "pid": replica.get("pid"),
                        }
                        for replica in found["replicas"]
                    ],
                }
                for deployment, found in application["deployments"].items()
            },
        }
        for name, application in details["applications"].items()
    }


COMMANDS: dict[str, Callable[..., Answer]] = {
    "deploy": deploy,
    "nodes": nodes,
    "applications": applications,
}


def main() -> None:
    # What Ray prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import ray

    ray.init(address=sys.argv[1], namespace="serve", logging_level=logging.ERROR, log_to_driver=False)
    print(json.dumps({"answer": "ready"}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": COMMANDS[request.pop("do")](**request)}
        except Exception as error:  # the parent decides what it means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), file=answers, flush=True)


if __name__ == "__main__":
    main()
