"""`sotto serve`: start the graph, say where it answers, and stop it when asked to."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from serve_app.cli.console import complain, err, note, out
from serve_app.launch.cluster import ClusterOptions, LaunchError
from serve_app.launch.deploy_config import DeployConfigError
from serve_app.launch.plan import plan_service
from serve_app.launch.serving import RunningService, start_service
from serve_app.settings import SettingsError

FORCED_EXIT = 130
STATUS_TIMEOUT_S = 5.0


def run_service(
    flags: Mapping[str, Any], *, config_path: Path | None, env_file: Path | None, cluster: ClusterOptions
) -> int:
    """Run until SIGINT or SIGTERM; the exit status. A second signal ends at once."""
    try:
        plan = plan_service(flags, config_path=config_path, env_file=env_file, cluster=cluster)
    except (SettingsError, DeployConfigError) as error:
        complain(str(error))
        return 2
    for warning in plan.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)
    note(f"{plan.config_path.name}, profile {plan.profile}")
    for reason in plan.reasons:
        note(reason)
    stop = threading.Event()
    # Until the service runs, a signal must interrupt any wait.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        service = start_service(
            plan.config,
            cluster=plan.cluster,
            edge=plan.edge,
            progress=note,
            timeout_s=plan.start_timeout_s,
        )
    except LaunchError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        note("stopped")
        return FORCED_EXIT
    _stop_on_signals(stop)
    _announce(service)
    while not stop.wait(1.0):
        continue
    note("stopping (once more: at once)")
    service.stop()
    note("stopped")
    return 0


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop_on_signals(stop: threading.Event) -> None:
    def handle(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            # The keeper ends the processes and removes the folder once we are gone.
            os._exit(FORCED_EXIT)
        stop.set()

    if hasattr(signal, "SIGHUP") and not sys.stdin.isatty():
        # A service manager's "reload", where no terminal can have been closed: there is nothing to read anew.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def _announce(service: RunningService) -> None:
    base = service.url
    out.print(f"\n[bold]Sotto answers at {base}[/bold]")
    out.print(f"  live       {base.replace('http', 'ws', 1)}/ws/stt", markup=False)
    out.print(f"  upload     POST {base}/transcribe", markup=False)
    out.print(f"  stream     POST {base}/transcribe/stream", markup=False)
    out.print(f"  health     {base}/health/status    metrics  {base}/metrics", markup=False)
    if service.edge is not None and service.edge.is_self_signed:
        out.print(f"  trust      {service.edge.files.cert} (self-signed)", markup=False)
    for line in describe_models(_status(service.service_url)):
        out.print(f"  {line}", markup=False)
    if service.log_dir is not None:
        out.print(f"  logs       {service.log_dir}", markup=False)
    out.print("Stop with Ctrl-C.\n")


def describe_models(status: Mapping[str, Any]) -> list[str]:
    """One line per role from the body of `/health/status`: name, device, precision."""
    return [
        f"{model['role']:<10} {model['name']} on {model['device']}, {model['compute_type']}"
        for model in status.get("models", [])
    ]


def _status(base: str) -> dict[str, Any]:
    """The server's own account of itself; empty where it gives none."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base}/health/status", timeout=STATUS_TIMEOUT_S) as answer:
            body = json.load(answer)
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
