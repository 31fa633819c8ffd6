"""Logs: a static message plus fields, one line each, and never the words that were said.

Ours come through structlog, those of libraries through `logging`; both leave in the same shape, to standard
error and, where one is named, to a file. Fields bound with `structlog.contextvars` (the request id) are on
every line of that request. Tracebacks have no local variables: those of a door or an engine hold words.

What exceptions say may quote what an engine was given: on lines that belong to a request it is hidden, unless
the level is DEBUG. A strict log hides it on all lines, and writes the ids that clients choose as pseudonyms.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TextIO, TypeAlias

import structlog
from structlog.types import Processor

from serve_app.core.sealing import seal, sealed_traceback
from serve_app.telemetry.log_file import LogFile

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

LogFormat: TypeAlias = Literal["auto", "json", "text"]

SPOKEN_FIELDS = frozenset(
    {
        "text",
        "transcript",
        "words",
        "word",
        "prompt",
        "draft",
        "hotwords",
        "keyterms",
        "filename",
        "segments",
        "audio",
    }
)
"""Fields that would carry what was said: their values are replaced, in libraries' lines too."""

CHOSEN_IDS: Final = ("request_id", "session_id")
"""Ids that a client may choose, and put a name into."""

CHOSEN_TEXTS: Final = ("path", "origin")
"""On a request's lines: what a client asked for, or says it is."""

_NAME: Final = "sotto"
_PLAIN_RECORD: Final = logging.getLogRecordFactory()


def configure_logs(
    level: str = "INFO",
    stream: TextIO | None = None,
    *,
    format: LogFormat = "auto",
    file: Path | None = None,
    pseudonym: Callable[[str], str] | None = None,
) -> None:
    """Send every log line at or over `level` to `stream` (standard error), and to `file` as JSON. Safe to
    call again.

    `format` auto: text where `stream` is a terminal, else JSON. With `pseudonym` the log is strict: it gives
    what to write for an id that a client chose. Raises `ValueError` on an unknown level.
    """
    name = level.strip().upper()
    if name not in LEVELS:
        raise ValueError(f"unknown log level {level!r}, expected one of {', '.join(LEVELS)}")
    out = stream or sys.stderr
    as_text = format == "text" or (format == "auto" and out.isatty())
    shared = _shared_processors(pseudonym, seals_requests=name != "DEBUG")
    handlers: list[logging.Handler] = [logging.StreamHandler(out)]
    handlers[0].setFormatter(_formatter(shared, as_text=as_text))
    if file is not None:
        handlers.append(LogFile(file))
        handlers[1].setFormatter(_formatter(shared, as_text=False))
    root = logging.getLogger()
    ours = [old for old in root.handlers if old.get_name() == _NAME]
    for handler in handlers:
        handler.set_name(_NAME)
    root.handlers = [old for old in root.handlers if old not in ours] + handlers
    for old in ours:
        if isinstance(old, LogFile):
            old.close()
    root.setLevel(name)
    logging.setLogRecordFactory(_PLAIN_RECORD if pseudonym is None else sealed_record)
    for library in ("httpx", "httpcore", "hpack", "multipart", "python_multipart", "websockets", "uvicorn"):
        # Their lines of every request or frame, or of what a form has in it.
        logging.getLogger(library).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, name)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def reopen_log_files() -> None:
    """Close the log file of this process, where it has one: the next line opens the path anew."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.reopen()


def hide_spoken_words(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: fields that carry speech keep their size and lose their content."""
    for name in SPOKEN_FIELDS & event.keys():
        value = event[name]
        event[name] = f"<{len(value)} hidden>" if hasattr(value, "__len__") else "<hidden>"
    return event


def sealed_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    """A log record that says of an exception which it was and where, and nothing that it says itself.

    A factory rather than a filter: loggers of Ray and Serve have handlers of their own.
    """
    record = _PLAIN_RECORD(*args, **kwargs)
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = sealed_traceback(record.exc_info[1])
        record.exc_info = None
    if isinstance(record.args, tuple):
        record.args = tuple(
            seal(value) if isinstance(value, BaseException) else value for value in record.args
        )
    if isinstance(record.msg, BaseException):
        record.msg = seal(record.msg)
    return record


def seal_unhandled() -> None:
    """What nothing catches is written to standard error by Python itself: there too without its message.

    The event loop's own report has the task's or callback's repr, which quotes its exception.
    """
    sys.excepthook = lambda kind, error, traceback: _say_unhandled(error)
    threading.excepthook = lambda given: _say_unhandled(given.exc_value)
    sys.unraisablehook = lambda given: _say_unhandled(given.exc_value)
    asyncio.BaseEventLoop.default_exception_handler = _loop_failed  # type: ignore[method-assign, assignment]


def _say_unhandled(error: BaseException | None) -> None:
    shown = "" if error is None else sealed_traceback(error)
    logging.getLogger("sotto.unhandled").error("unhandled exception\n%s", shown)


def _loop_failed(loop: Any, context: dict[str, Any]) -> None:
    _say_unhandled(context.get("exception"))


def _formatter(shared: list[Processor], *, as_text: bool) -> logging.Formatter:
    plain = structlog.dev.plain_traceback  # the default one shows local variables where rich is installed
    renderers: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
    ]
    if as_text:
        renderers = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _shared_processors(pseudonym: Callable[[str], str] | None, *, seals_requests: bool) -> list[Processor]:
    strict: list[Processor] = [_seal_in_requests] if seals_requests else []
    if pseudonym is not None:
        strict = [partial(_with_pseudonyms, pseudonym), _seal_exceptions]
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_spoken_words,
        *strict,
    ]


def _with_pseudonyms(
    pseudonym: Callable[[str], str], logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in CHOSEN_IDS:
        if isinstance(value := event.get(name), str) and value:
            event[name] = pseudonym(value)
    if event.keys() & set(CHOSEN_IDS):
        for name in event.keys() & set(CHOSEN_TEXTS):
            event[name] = f"<{len(str(event[name]))} hidden>"
    return event


def _seal_in_requests(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return _seal_exceptions(logger, method, event) if event.keys() & set(CHOSEN_IDS) else event


def _seal_exceptions(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Exceptions as `exc_info` or as a field's value; what was made of one already has no message to keep."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord) and record.exc_text:  # a library's, sealed where it was made
        event["exception"], record.exc_text = record.exc_text, None
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if given is True:
        error = sys.exc_info()[1]
    if error is not None:
        event["exception"] = sealed_traceback(error)
    for name, value in event.items():
        if isinstance(value, BaseException):
            event[name] = str(seal(value))
    return event
