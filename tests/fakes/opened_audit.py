"""An audit log of settings that ask for one."""

from __future__ import annotations

from serve_app.assembly.audit import AuditEraser, AuditKeeper, open_audit
from serve_app.settings import Settings
from serve_app.telemetry.metrics import Metrics, no_metrics


def opened_audit(settings: Settings, metrics: Metrics | None = None) -> tuple[AuditKeeper, AuditEraser]:
    opened = open_audit(settings, metrics or no_metrics())
    assert opened is not None
    return opened
