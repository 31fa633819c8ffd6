"""JSON logs: a static message plus fields, one line each, and never the words that were said.

Ours come through structlog, those of libraries through `logging`; both leave in the same shape. Fields
bound with `structlog.contextvars` (the request id) are on every line of that request.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.types import Processor

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

SPOKEN_FIELDS = frozenset({"text", "transcript", "words", "word", "prompt", "hotwords", "segments", "audio"})
"""Fields that would carry what was said: their values are replaced, in libraries' lines too."""


def configure_logs(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every log line at or over `level` as JSON to `stream` (standard error). Safe to call again.

    Raises `ValueError` on an unknown level.
    """
    name = level.strip().upper()
    if name not in LEVELS:
        raise ValueError(f"unknown log level {level!r}, expected one of {', '.join(LEVELS)}")
    shared = _shared_processors()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
            ],
        )
    )
    handler.set_name("sotto")
    root = logging.getLogger()
    root.handlers = [old for old in root.handlers if old.get_name() != "sotto"] + [handler]
    root.setLevel(name)
    for library in ("httpx", "httpcore", "hpack", "multipart"):
        logging.getLogger(library).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, name)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def hide_spoken_words(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: fields that carry speech keep their size and lose their content."""
    for name in SPOKEN_FIELDS & event.keys():
        value = event[name]
        event[name] = f"<{len(value)} hidden>" if hasattr(value, "__len__") else "<hidden>"
    return event


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_spoken_words,
    ]
