"""Runs on the head: deploys and asks Ray and Serve, for a parent that is on another host.

    ip netns exec HEAD python -m benchmarks.cluster_hosts.console HEAD_ADDRESS:6379

A line is a JSON object: `{"do": "nodes"}` in, `{"answer": ...}` or `{"error": ...}` out. Ends with its input.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

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
