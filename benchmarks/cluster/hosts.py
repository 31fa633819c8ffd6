"""A Ray cluster of several hosts on this machine, with pretended GPUs, and ways to break it.

    with cluster_of_hosts(num_workers=3) as cluster:
        cluster.deploy(small_config())
        ...
        cluster.kill("worker1")

Each host is a network namespace with processes of its own: a head that runs no replicas and workers with one
pretended GPU each. Clients reach them over the bridge, directly (`host_url`) or through a gateway (`url`).
Nothing can leave the machine from there, and nothing is left behind at the end.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cluster.console import (
    START_TIMEOUT_S,
    Console,
    HostsError,
    end_of,
)
from benchmarks.cluster.network import GATEWAY_PORT, SERVE_PORT, NetHost, Network, start_gateway
from serve_app.launch.cluster import SOURCE_DIR, LaunchError, bundled_haproxy
from serve_app.launch.deploy_config import DeployConfig
from serve_app.launch.environment import (
    HAPROXY_DIR,
    RayEnvironment,
    loopback_haproxy,
    make_runtime_dir,
    remove_runtime_dir,
)
from serve_app.launch.keeper import start_keeper
from serve_app.launch.processes import end_processes

HEAD = "head"
GCS_PORT = 6379
STATS_PORT, METRICS_PORT, FALLBACK_PORT = 8404, 9101, 8500
OBJECT_STORE_BYTES = 80_000_000
NUM_CPUS = 4
"""Of each worker, as Ray counts them."""
POLL_S = 0.5
SPARE_HOSTS = 3
"""Hosts that may be added later: the gateway knows their addresses from the beginning."""
SMALL_MACHINE = {
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_worker_register_timeout_seconds": "180",
}
"""So that nodes which share two cores start only the processes that they need, and wait for slow ones."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as Serve's controller sees it; `address` is its host's."""

    deployment: str
    replica_id: str
    state: str
    address: str
    pid: int


HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_grpc_client_keepalive_timeout_ms": "5000",
}
"""A dead host is missed after 5 s, one that has gone silent after 15 s. With Ray's own choice: 13 and 63,
and until then calls hang that went there."""


class HostCluster:
    """Hosts, the console on the head and the gateway; made by `cluster_of_hosts`."""

    def __init__(self, network: Network, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir
        self._network = network
        self._token = secrets.token_hex(32)
        self._hosts: dict[str, NetHost] = {}
        self._console: Console | None = None
        self._gateway: subprocess.Popen[bytes] | None = None

    # -- coming up -------------------------------------------------------------------------------

    def start(self, num_workers: int, labels: Mapping[str, str]) -> None:
        self._hosts[HEAD] = self._network.add(HEAD)
        self._start_ray(self._hosts[HEAD]).wait_started()
        gcs_address, log = self._gcs_address, self.runtime_dir / "console.log"
        self._console = Console(self._hosts[HEAD], gcs_address, self._environment(self._hosts[HEAD]), log)
        self._console.wait_ready()
        addresses = self._network.next_addresses(num_workers + SPARE_HOSTS)
        self._gateway = start_gateway(bundled_haproxy(), self.runtime_dir, self._network.address, addresses)
        self.add_workers(num_workers, labels)

    def add_workers(self, num_workers: int, labels: Mapping[str, str] | None = None) -> list[str]:
        """Hosts with one pretended GPU each that join the cluster; returns their names once they have.
        `labels`: by name, those of the node on it, `key=value,...`."""
        names = [f"worker{self._network.num_made + index}" for index in range(num_workers)]
        starting = []
        for name in names:
            self._hosts[name] = self._network.add(name)
            starting.append(self._start_ray(self._hosts[name], (labels or {}).get(name)))
        for node in starting:
            node.wait_started()
        return names

    def _start_ray(self, host: NetHost, labels: str | None = None) -> _StartingNode:
        """`ray start` on `host`, with the variables that production sets."""
        arguments = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start"),
            f"--node-ip-address={host.address}",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            f"--temp-dir={self._folder(host)}",
            "--include-log-monitor=false",
            "--disable-usage-stats",
        ]
        if host.name == HEAD:
            arguments += ["--head", f"--port={GCS_PORT}", "--num-cpus=0", "--num-gpus=0"]
            arguments += ["--include-dashboard=false"]
        else:
            arguments += [f"--address={self._gcs_address}", f"--num-cpus={NUM_CPUS}", "--num-gpus=1"]
            arguments += [f"--labels={labels}"] if labels else []
        log = self.runtime_dir / f"{host.name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                host.command(*arguments),
                env=self._environment(host),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return _StartingNode(host.name, process, log)

    def _environment(self, host: NetHost) -> dict[str, str]:
        """This process's environment without any Ray's and settings, and ours for a node on `host`."""
        folder = self._folder(host)
        (folder / HAPROXY_DIR).mkdir(parents=True, exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STT_"))}
        haproxy = loopback_haproxy(folder, bundled_haproxy(), STATS_PORT, METRICS_PORT)
        environment = RayEnvironment(
            runtime_dir=folder,
            source_dir=SOURCE_DIR,
            stats_port=STATS_PORT,
            metrics_port=METRICS_PORT,
            fallback_port=FALLBACK_PORT,
            auth_token=self._token,
            haproxy_binary=haproxy,
        )
        return {**clean, **environment.merged(clean), **HEALTH_CHECKS, **SMALL_MACHINE}

    def _folder(self, host: NetHost) -> Path:
        """Its own temporary files; short, since sockets lie below it."""
        return self.runtime_dir / f"h{host.index}"

    @property
    def _gcs_address(self) -> str:
        return f"{self._hosts[HEAD].address}:{GCS_PORT}"

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the console on the head answers. Raises `HostsError`."""
        assert self._console is not None
        return self._console.ask(command, **arguments)

    # -- what runs on it -------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The gateway."""
        return f"http://{self._network.address}:{GATEWAY_PORT}"

    def host_url(self, name: str) -> str:
        """The proxy of one host."""
        return f"http://{self._hosts[name].address}:{SERVE_PORT}"

    @property
    def workers(self) -> list[str]:
        return [name for name in self._hosts if name != HEAD]

    def host_of(self, address: str) -> str:
        """The name of the host with this address. Raises `KeyError`."""
        for name, host in self._hosts.items():
            if host.address == address:
                return name
        raise KeyError(address)

    def address_of(self, name: str) -> str:
        return self._hosts[name].address

    def deploy(self, config: DeployConfig) -> None:
        self.ask("deploy", config=config)

    def nodes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("nodes")
        return found

    def deployments(self) -> dict[str, dict[str, Any]]:
        """Of the one application: by name its status, wanted number of replicas, share of a GPU."""
        applications = self.ask("applications")
        found: dict[str, Any] = next(iter(applications.values()), {"deployments": {}})
        deployments: dict[str, dict[str, Any]] = found["deployments"]
        return deployments

    def replicas(self, deployment: str | None = None, *, state: str = "RUNNING") -> list[Replica]:
        """Those in `state`, as the controller knows it."""
        return [
            Replica(name, found["replica_id"], found["state"], found["address"], found["pid"])
            for name, entry in self.deployments().items()
            for found in entry["replicas"]
            if deployment in (None, name) and found["state"] == state and found["pid"]
        ]

    def wait_until(self, reached: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> float:
        """Seconds until `reached()`. Raises `HostsError` that names `what`, with what the controller says."""
        began = time.monotonic()
        while not reached():
            if time.monotonic() - began > timeout_s:
                raise HostsError(
                    f"not within {timeout_s:.0f} s: {what}\n{json.dumps(self.ask('applications'))}"
                )
            time.sleep(POLL_S)
        return time.monotonic() - began

    def is_settled(self, names: Collection[str] = ()) -> bool:
        """Every deployment, or those with these names, healthy with exactly the replicas that it wants."""
        deployments = {n: entry for n, entry in self.deployments().items() if not names or n in names}
        return bool(deployments) and all(
            entry["status"] == "HEALTHY"
            and len(entry["replicas"]) == entry["wanted"]
            and all(replica["state"] == "RUNNING" for replica in entry["replicas"])
            for entry in deployments.values()
        )

    def answers(self, url: str) -> bool:
        """Whether the models behind `url` are ready."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with suppress(OSError), opener.open(f"{url}/health/ready", timeout=3) as answer:
            return bool(answer.status == 200)
        return False

    # -- breaking it -----------------------------------------------------------------------------

    def kill(self, name: str, *, cut: bool = False) -> None:
        """A host is gone at once. With `cut` its cable goes first, so that no connection is closed by it."""
        host = self._hosts.pop(name)
        if cut:
            host.cut()
        host.kill()

    def kill_replica(self, replica: Replica) -> None:
        os.kill(replica.pid, signal.SIGKILL)

    def kill_proxy(self, name: str) -> None:
        """HAProxy on one host."""
        import psutil

        for pid in self._hosts[name].pids():
            with suppress(psutil.Error):
                if psutil.Process(pid).name() == "haproxy":
                    os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End everything: may be called twice, and at any point of a start."""
        if self._console is not None:
            self._console.close()
        if self._gateway is not None:
            self._gateway.kill()
            self._gateway.wait(10)
        self._console = self._gateway = None
        self._network.remove()


@dataclass(frozen=True, slots=True)
class _StartingNode:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_started(self) -> None:
        """Raises `HostsError` with what `ray start` said."""
        try:
            code = self.process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = -1
        if code != 0:
            raise HostsError(f"Ray did not start on {self.name}:\n{end_of(self.log)}")


@contextmanager
def cluster_of_hosts(
    num_workers: int = 3, *, labels: Mapping[str, str] | None = None
) -> Iterator[HostCluster]:
    """A head, `worker1` and so on, without an application; `labels` as in `HostCluster.add_workers`.

    Raises `NoNamespaces` where this machine cannot make hosts, `HostsError` where Ray does not come up.
    """
    network = Network.make()
    runtime_dir = make_runtime_dir()
    keeper = start_keeper(runtime_dir, SOURCE_DIR)
    cluster = HostCluster(network, runtime_dir)
    try:
        cluster.start(num_workers, labels or {})
        yield cluster
    except LaunchError as error:
        raise HostsError(str(error)) from error
    finally:
        cluster.stop()
        end_processes(runtime_dir, spare=(keeper.pid,), grace_s=0.5)
        remove_runtime_dir(runtime_dir)
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait(30)
