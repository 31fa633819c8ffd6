"""The server under test: one that runs already, or one that is started for the run and stopped after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.launch.plan import plan_service
from serve_app.launch.ports import free_ports
from serve_app.launch.serving import running_service


@dataclass(frozen=True, slots=True)
class ServiceUnderTest:
    """`runtime_dir` tells its processes from others'; None where it was running before."""

    url: str
    runtime_dir: Path | None


@contextmanager
def service_under_test(
    url: str | None, *, profile: str = "cpu", settings: Mapping[str, Any] | None = None
) -> Iterator[ServiceUnderTest]:
    """Yield the service at `url`, or one of our own on a free port with these settings."""
    if url is not None:
        yield ServiceUnderTest(url, None)
        return
    flags = {**(settings or {}), "profile": profile, "host": "127.0.0.1", "port": free_ports(1)[0]}
    plan = plan_service(flags)
    with running_service(plan.config, cluster=plan.cluster, progress=say, edge=plan.edge) as service:
        yield ServiceUnderTest(service.url, service.cluster.runtime_dir)


def say(line: str) -> None:
    """A progress line, beside the results and not among them."""
    print(f"  {line}", file=sys.stderr, flush=True)
