"""What every process of the service does first, as the settings say: its logs, and in strict privacy what
keeps its memory out of files."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from serve_app.core.core_dumps import forbid_core_dumps
from serve_app.core.sealing import Pseudonyms
from serve_app.settings import Settings
from serve_app.telemetry.logs import configure_logs, seal_unhandled


def set_up_process(settings: Settings) -> None:
    """Call it before anything else is logged."""
    configure_logs(
        settings.log_level,
        format=settings.log_format,
        file=settings.log_file,
        pseudonym=pseudonyms(settings),
    )
    if settings.privacy == "strict":
        seal_unhandled()
        forbid_core_dumps()


def pseudonyms(settings: Settings) -> Pseudonyms | None:
    """What logs write for ids that clients choose; None: the ids themselves.

    The key is the audit log's, else that of tickets: the same on all replicas, and with a key that stays, the
    same from start to start.
    """
    return known_pseudonyms(settings) if settings.privacy == "strict" else None


def known_pseudonyms(settings: Settings) -> Pseudonyms:
    """Those that a service with these settings writes, or would where it is strict."""
    secret = settings.secret("audit_key") or settings.secret("ticket_secret") or secrets.token_hex(32)
    return Pseudonyms(hmac.new(secret.encode(), b"pseudonyms of ids in logs", hashlib.sha256).digest())
