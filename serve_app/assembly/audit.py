"""The audit log as the settings ask for it: a keeper of request records, and an eraser."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog

from serve_app.assembly.process import pseudonyms
from serve_app.audit.erasure import erase
from serve_app.audit.lines import Fields
from serve_app.audit.log import AuditLog
from serve_app.core.erasure import Erasure
from serve_app.core.sealing import Pseudonyms
from serve_app.settings import Settings
from serve_app.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

WHO: Final = ("request_id", "session_id", "key_id", "key_name", "address")
"""Fields of a record that name a person, or lead to one: they can be erased."""
CHOSEN: Final = ("request_id", "session_id")
SAY_AGAIN_S: Final = 60.0


class AuditKeeper:
    """Takes records of requests for the audit log; `is_failing` while it cannot be written."""

    def __init__(self, audit: AuditLog, pseudonym: Pseudonyms | None) -> None:
        self.audit = audit
        self._pseudonym = pseudonym

    def __call__(self, record: Mapping[str, Any]) -> None:
        who = {name: record[name] for name in WHO if name in record}
        if self._pseudonym is not None:
            who |= {name: self._pseudonym(who[name]) for name in CHOSEN if name in who}
        self.audit.append("request", {name: record[name] for name in record if name not in WHO}, who)

    @property
    def is_failing(self) -> bool:
        return self.audit.is_failing

    def close(self) -> None:
        self.audit.close()


class AuditEraser:
    """Erases who it was from the audit log of this machine. Left out unless asked for: whom the log is there
    to hold to account could else take themselves out of it."""

    name = "audit"
    only_if_asked = True

    def __init__(self, audit: AuditLog, pseudonym: Pseudonyms | None) -> None:
        self._audit = audit
        self._pseudonym = pseudonym

    async def erase(self, wanted: Erasure) -> int:
        names = {wanted.session_id}
        if self._pseudonym is not None and wanted.session_id:
            names.add(self._pseudonym(wanted.session_id))

        def is_wanted(who: Fields) -> bool:
            if wanted.session_id:
                return who.get("session_id") in names
            return bool(wanted.key_id) and who.get("key_id") == wanted.key_id

        return await asyncio.to_thread(
            erase, self._audit.folder, self._audit.sums, is_wanted, self._append_and_sync
        )

    def _append_and_sync(self, kind: str, fields: Fields) -> None:
        self._audit.append(kind, fields)
        if not self._audit.flush():
            raise OSError("the audit log cannot be written")


def open_audit(settings: Settings, metrics: Metrics) -> tuple[AuditKeeper, AuditEraser] | None:
    """None where there is no audit log. Its thread has started; close the keeper."""
    if settings.audit_log_dir is None:
        if settings.audit_retention_days is not None:
            log.warning("audit_retention_days has no effect without audit_log_dir")
        return None
    said_s = -SAY_AGAIN_S

    def failed(error: Exception) -> None:
        nonlocal said_s
        metrics.audit_failed()
        if time.monotonic() - said_s >= SAY_AGAIN_S:
            said_s = time.monotonic()
            log.error("the audit log cannot be written", error=type(error).__name__, reason=str(error))

    key = settings.secret("audit_key")
    if not key:
        log.warning("no audit_key: who can write the audit log can also forge it")
    audit = AuditLog(
        settings.audit_log_dir,
        key.encode() if key else None,
        retention_days=settings.audit_retention_days,
        on_failure=failed,
    )
    pseudonym = pseudonyms(settings)
    return AuditKeeper(audit, pseudonym), AuditEraser(audit, pseudonym)
