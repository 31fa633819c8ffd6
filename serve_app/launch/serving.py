"""From a Serve config to an address that answers: start Ray, deploy, wait, and stop again."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serve_app.launch.cluster import (
    ClusterOptions,
    LaunchError,
    RayCluster,
    free_ports,
    port_is_free,
    start_ray,
)
from serve_app.launch.deploy_config import DeployConfig, app_names, for_one_machine, http_address
from serve_app.launch.edge import EDGE_DIR, Edge
from serve_app.launch.edge_config import EdgeOptions
from serve_app.launch.processes import process_title, processes_of

Progress = Callable[[str], None]

START_TIMEOUT_S = 300.0
POLL_INTERVAL_S = 0.25
STOP_TIMEOUT_S = 20.0
MAX_MESSAGE_LINES = 25


def _silent(_: str) -> None:
    return None


@dataclass(slots=True)
class RunningService:
    """A deployed graph. `url` is where a client on this machine reaches it, `service_url` the same without
    TLS where there is an edge in front."""

    cluster: RayCluster
    host: str
    port: int
    app_names: tuple[str, ...] = ()
    edge: Edge | None = None

    @property
    def url(self) -> str:
        return f"{'http' if self.edge is None else 'https'}://{url_host(self.host)}:{self.port}"

    @property
    def service_url(self) -> str:
        return self.url if self.edge is None else f"http://127.0.0.1:{self.edge.service_port}"

    @property
    def log_dir(self) -> Path | None:
        """Where Ray and the replicas write their logs, while they run."""
        run = self.cluster.runtime_dir
        return run / "session_latest" / "logs" if run is not None else None

    def stop(self) -> None:
        """Let Serve end its replicas (they close their sockets) and HAProxy, then end Ray; where Ray is not
        ours, only the applications are removed. The edge lives until what goes through it has ended."""
        if self.edge is not None:
            self.edge.drain()
        try:
            self._stop_serve()
        finally:
            if self.edge is not None:
                self.edge.stop()
            self.cluster.stop()

    def _stop_serve(self) -> None:
        import ray
        from ray import serve
        from ray.exceptions import RayError

        if ray.is_initialized():
            with suppress(RayError, TimeoutError):
                client = serve.context._get_global_client(raise_if_no_controller_running=False)
                if client is not None and self.cluster.runtime_dir is None:
                    client.delete_apps(list(self.app_names))
                elif client is not None and self.cluster.runtime_dir is not None:
                    # Not `client.shutdown()`: it waits inside the controller, whose end Ray then reports.
                    ray.get(client._controller.graceful_shutdown.remote(wait=False), timeout=STOP_TIMEOUT_S)
                    _wait_replicas_gone(self.cluster.runtime_dir, self.edge)


def url_host(host: str) -> str:
    """The host to put in a URL for a server that listens on `host`: wildcards become loopback."""
    wildcards = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}
    return wildcards.get(host, f"[{host}]" if ":" in host else host)


def start_service(
    config: DeployConfig,
    *,
    cluster: ClusterOptions | None = None,
    edge: EdgeOptions | None = None,
    progress: Progress = _silent,
    timeout_s: float = START_TIMEOUT_S,
) -> RunningService:
    """Start Ray, deploy `config` and wait until every application answers over HTTP.

    With `edge` the config's address speaks TLS, and the service moves to a loopback port behind it.
    `progress` gets one line per step and per deployment. Raises `LaunchError` with the deployments' own
    messages; nothing is left running then. Call it from the main thread.
    """
    host, port = http_address(config)
    if host is None or port is None:
        raise LaunchError("The config needs `http_options` with host and port.")
    if not port_is_free(port, "" if host == "0.0.0.0" else host):
        raise LaunchError(
            f"Port {port} on {host} is taken: stop what listens there, or choose another with --port."
        )
    size = cluster or ClusterOptions()
    if edge is not None and size.address is not None:
        raise LaunchError("TLS needs a Ray of our own: in front of another's, use that cluster's gateway.")
    front = Edge(edge, host, port, free_ports(1)[0], progress) if edge is not None else None
    if front is not None:
        config = for_one_machine(config, host="127.0.0.1", port=front.service_port)
    started = time.monotonic()
    progress("starting Ray")
    ray_cluster = start_ray(size)
    service = RunningService(ray_cluster, host, port, app_names(config), front)
    try:
        progress(f"Ray is up ({time.monotonic() - started:.1f} s); deploying")
        deploy(config)
        deadline = time.monotonic() + timeout_s
        _wait_running(app_names(config), deadline, timeout_s, progress)
        _wait_answering(service.service_url, deadline)
        if front is not None and ray_cluster.runtime_dir is not None:
            front.start(ray_cluster.runtime_dir / EDGE_DIR)
            _wait_answering(service.url, deadline)
    except BaseException:
        service.stop()
        raise
    progress(f"ready after {time.monotonic() - started:.1f} s")
    if speakers := status_of(service.service_url).get("capacity", {}).get("estimated_max_concurrent"):
        progress(f"about {speakers} people may talk at once here")
    return service


@contextmanager
def running_service(
    config: DeployConfig,
    *,
    cluster: ClusterOptions | None = None,
    edge: EdgeOptions | None = None,
    progress: Progress = _silent,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[RunningService]:
    """`start_service` that stops at the end of the block."""
    service = start_service(config, cluster=cluster, edge=edge, progress=progress, timeout_s=timeout_s)
    try:
        yield service
    finally:
        service.stop()


def deploy(config: DeployConfig) -> None:
    """Hand the config to Serve's controller, as `serve run` does (no dashboard needed)."""
    import logging

    from pydantic import ValidationError
    from ray.exceptions import RayError
    from ray.serve._private.api import serve_start
    from ray.serve.config import gRPCOptions
    from ray.serve.schema import ServeDeploySchema

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        schema = ServeDeploySchema.model_validate(config)
    except ValidationError as error:
        raise LaunchError(f"The Serve config is not valid: {error}") from error
    try:
        client = serve_start(
            http_options=schema.http_options.model_dump(),
            grpc_options=gRPCOptions(**schema.grpc_options.model_dump()),
            proxy_location=schema.proxy_location,
            controller_options=schema.controller_options,
            global_logging_config=schema.logging_config,
        )
        client.deploy_apps(schema)
    except (TimeoutError, RayError) as error:
        raise LaunchError(f"Serve did not come up:\n{last_lines(str(error))}") from error


def _wait_running(names: tuple[str, ...], deadline: float, timeout_s: float, progress: Progress) -> None:
    from ray import serve

    started, healthy = time.monotonic(), set[str]()
    while True:
        applications = serve.status().applications
        current = {name: applications[name] for name in names if name in applications}
        for name, application in current.items():
            for deployment, overview in application.deployments.items():
                if overview.status == "HEALTHY" and (key := f"{name}/{deployment}") not in healthy:
                    healthy.add(key)
                    progress(f"{deployment} is ready ({time.monotonic() - started:.1f} s)")
            if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise LaunchError(failure_text(name, application))
        if len(current) == len(names) and all(app.status == "RUNNING" for app in current.values()):
            return
        if time.monotonic() > deadline:
            waiting = "; ".join(failure_text(name, application) for name, application in current.items())
            raise LaunchError(f"Not ready after {timeout_s:.0f} s: {waiting or 'no application was built'}")
        time.sleep(POLL_INTERVAL_S)


def failure_text(name: str, application: Any) -> str:
    """Why an application does not run: its own message and those of its unhealthy deployments, shortened
    from the front (a traceback's cause is at its end)."""
    parts = [f"application {name} is {getattr(application.status, 'value', application.status)}"]
    messages = [("", application.message)]
    messages += [
        (f"{deployment}: ", overview.message)
        for deployment, overview in application.deployments.items()
        if overview.status != "HEALTHY"
    ]
    for prefix, message in messages:
        if text := last_lines(str(message or "")):
            parts.append(prefix + text)
    return "\n".join(parts)


def last_lines(text: str) -> str:
    """The end of a traceback, where its cause is."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-MAX_MESSAGE_LINES:])


def _wait_replicas_gone(runtime_dir: Path, edge: Edge | None) -> None:
    spare = (edge.pid,) if edge is not None and edge.pid is not None else ()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while time.monotonic() < deadline:
        names = [process_title(process) for process in processes_of(runtime_dir, spare=spare)]
        if not any("ServeReplica" in name or name == "haproxy" for name in names):
            return
        time.sleep(POLL_INTERVAL_S)


def _wait_answering(url: str, deadline: float) -> None:
    """Wait until HAProxy knows the replicas: its health page answers 200. Whose certificate an edge shows is
    not asked: it need not name this machine's loopback."""
    parts = urlsplit(url)
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            connection = _connection(parts.scheme, parts.hostname or "", parts.port)
            try:
                connection.request("GET", "/-/healthz")
                if connection.getresponse().status == 200:
                    return
            finally:
                connection.close()
        time.sleep(POLL_INTERVAL_S)
    raise LaunchError(f"{url} does not answer.")


def status_of(url: str) -> dict[str, Any]:
    """What the service says of itself at `/health/status`; empty where it does not, or does not tell."""
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port)
    try:
        connection.request("GET", "/health/status")
        answer = connection.getresponse()
        return dict(json.loads(answer.read())) if answer.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError, TypeError):
        return {}
    finally:
        connection.close()


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=5)
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=5, context=anyone)
