"""`sotto serve`: start the graph, say where it answers, and stop it when asked to."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import structlog

from serve_app.assembly.process import set_up_process
from serve_app.cli.console import FAILED, INTERRUPTED, OK, complain, fail, note, out, warn
from serve_app.launch.cluster import ClusterOptions, LaunchError
from serve_app.launch.deploy_config import DeployConfigError
from serve_app.launch.plan import plan_service
from serve_app.launch.serving import RunningService, start_service, status_of
from serve_app.settings import Settings, SettingsError
from serve_app.telemetry.logs import reopen_log_files

log = structlog.get_logger(__name__)


def run_service(
    flags: Mapping[str, Any], *, config_path: Path | None, env_file: Path | None, cluster: ClusterOptions
) -> int:
    """Run until SIGINT or SIGTERM; the exit status. A second signal ends at once."""
    try:
        plan = plan_service(flags, config_path=config_path, env_file=env_file, cluster=cluster)
        metrics = _metrics_address(plan.settings)
    except (SettingsError, DeployConfigError, OSError) as error:
        fail(str(error))
    for warning in plan.warnings:
        warn(warning)
    note(f"{plan.config_path.name}, profile {plan.profile}")
    for reason in plan.reasons:
        note(reason)
    if (problem := unwritable(plan.settings)) is not None:
        fail(problem)
    set_up_process(plan.settings)
    stop, hung_up = threading.Event(), threading.Event()
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
        return FAILED
    except KeyboardInterrupt:
        note("stopped")
        return INTERRUPTED
    listen_to_signals(stop, hung_up)
    _announce(service, metrics)
    log.info("service started", url=service.url)
    wait_until(stop, hung_up)
    log.info("service stops")
    note("stopping (once more: at once)")
    service.stop()
    note("stopped")
    return OK


def unwritable(settings: Settings) -> str | None:
    """What is wrong with the places of the log file and of the audit log, which are made where they are
    missing. Once the service runs, neither stops it."""
    try:
        if settings.log_file is not None:
            settings.log_file.parent.mkdir(parents=True, exist_ok=True)
            settings.log_file.open("a").close()
        if settings.audit_log_dir is not None:
            settings.audit_log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=settings.audit_log_dir):
                pass
    except OSError as error:
        return f"cannot write {error.filename or settings.audit_log_dir}: {error.strerror}"
    return None


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def listen_to_signals(stop: threading.Event, hung_up: threading.Event) -> None:
    """SIGINT and SIGTERM set `stop`, a second one ends the process; SIGHUP sets `hung_up`, where no terminal
    can have been closed."""

    def handle(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            # The keeper ends the processes and removes the folder once we are gone.
            os._exit(INTERRUPTED)
        stop.set()

    if hasattr(signal, "SIGHUP") and not sys.stdin.isatty():
        signal.signal(signal.SIGHUP, lambda _, __: hung_up.set())
    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def wait_until(stop: threading.Event, hung_up: threading.Event, *, step_s: float = 1.0) -> None:
    """Until `stop`; a "reload" opens the log file anew (the replicas find by themselves that
    it was moved). Not in the handler: it may interrupt a line that is being logged."""
    while not stop.wait(step_s):
        if hung_up.is_set():
            hung_up.clear()
            reopen_log_files()
            log.info("log file opened anew")


def _metrics_address(settings: Settings) -> str | None:
    """Where metrics will be: "" on the service's port, None: nowhere. Raises `OSError`, with a sentence,
    where another program has their port."""
    if not settings.metrics_enabled:
        return None
    if settings.metrics_port is None:
        return ""
    from serve_app.web.metrics_port import listen_for_scrapers

    listen_for_scrapers(settings.host, settings.metrics_port).close()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.metrics_port}"


def _announce(service: RunningService, metrics: str | None) -> None:
    base = service.url
    out.print(f"\n[bold]Sotto answers at {base}[/bold]")
    out.print(f"  live       {base.replace('http', 'ws', 1)}/ws/stt", markup=False)
    out.print(f"  upload     POST {base}/transcribe", markup=False)
    out.print(f"  stream     POST {base}/transcribe/stream", markup=False)
    shown = "" if metrics is None else f"    metrics  {metrics or base}/metrics"
    out.print(f"  health     {base}/health/status{shown}", markup=False)
    if service.edge is not None and service.edge.is_self_signed:
        out.print(f"  trust      {service.edge.files.cert} (self-signed)", markup=False)
    for line in describe_models(status_of(service.service_url)):
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
