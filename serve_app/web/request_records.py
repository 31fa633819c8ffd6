"""One record per request and per live connection, made at its end: a log line, and where there is an audit
log, a line of that.

It says who, when, by which door, with what outcome, and how much: seconds and counts, never what was said,
nor what of an address or a header is the client's own text. Doors add to it what they alone know.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.core.errors import SottoError
from serve_app.protocols.doors import Described, Operation
from serve_app.service.contract import RecordingTranscript
from serve_app.telemetry.metrics import Metrics
from serve_app.web.callers import caller_of
from serve_app.web.request_ids import HEADER

log = structlog.get_logger("sotto.requests")
_STANDARD_LOG: Final = logging.getLogger("sotto.requests")
"""Whether a level is logged; asking it costs a hundredth of a line that is dropped."""

CLIENT_LEFT: Final = "client left"
UNKNOWN_DOOR: Final = "unknown"
MAX_ADDRESS_CHARS: Final = 64


@dataclass(slots=True)
class RequestRecord:
    """What is known of one request or connection. `status`: of HTTP, or of a refused handshake; `close_code`:
    of a WebSocket, ours or the client's. `reason`: an error's code, or why a session ended."""

    request_id: str = ""
    session_id: str = ""
    key_id: str = ""
    key_name: str = ""
    address: str = ""
    method: str = ""
    door: str = UNKNOWN_DOOR
    status: int | None = None
    close_code: int | None = None
    reason: str = ""
    duration_s: float = 0.0
    audio_s: float = 0.0
    num_finals: int = 0
    num_chars: int = 0
    is_failed: bool = False

    def failed(self, error: SottoError) -> None:
        """The last one counts. By its code: messages quote clients."""
        self.reason = error.code
        self.is_failed = True

    def client_left(self, code: int | None) -> None:
        """Where neither side had ended it; `code`: what a WebSocket was closed with."""
        if self.close_code is None:
            self.close_code = code
            self.reason = self.reason or CLIENT_LEFT

    def transcribed(self, transcript: RecordingTranscript) -> None:
        """A recording, or one channel of it."""
        self.audio_s += transcript.duration_s
        self.num_finals += len(transcript.segments)
        self.num_chars += len(transcript.text)

    def fields(self) -> dict[str, Any]:
        """Fit for JSON; what does not apply is left out."""
        given = {
            name: getattr(self, name)
            for name in ("request_id", "session_id", "key_id", "key_name", "address", "method", "door")
        }
        outcome = {name: getattr(self, name) for name in ("status", "close_code", "reason")}
        sizes = {
            "duration_s": round(self.duration_s, 3),
            "audio_s": round(self.audio_s, 3),
            "num_finals": self.num_finals,
            "num_chars": self.num_chars,
        }
        shown = {name: value for name, value in (given | outcome).items() if value not in ("", None)}
        return shown | (sizes if self.audio_s else {"duration_s": sizes["duration_s"]})


class RecordKeeper(Protocol):
    """Writes records into the audit log."""

    def __call__(self, record: dict[str, Any]) -> None:
        """Neither blocks nor raises."""

    @property
    def is_failing(self) -> bool:
        """What came last could not be written yet."""


_current: ContextVar[RequestRecord] = ContextVar("request_record")


def current_record() -> RequestRecord:
    """Of the request that this task serves; outside of one, a record that goes nowhere."""
    return _current.get(None) or RequestRecord()


class RequestRecords:
    """ASGI middleware around all doors, inside of `RequestIds`.

    Probes and pages that need no key are logged at DEBUG alone, and not audited: they are asked for every few
    seconds, and say nothing of anybody.
    """

    def __init__(
        self,
        app: ASGIApp,
        described: Iterable[Described],
        keep: RecordKeeper | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        self._app = app
        self._doors = _Doors(described)
        self._keep = keep
        self._metrics = metrics
        self._clock_s = clock_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        record = RequestRecord()
        started_s = self._clock_s()

        async def send_and_look(message: Message) -> None:
            match message["type"]:
                case "http.response.start" | "websocket.http.response.start":
                    record.status = message["status"]
                case "websocket.close":
                    record.close_code = message.get("code", 1000)
            await send(message)

        token = _current.set(record)
        try:
            await self._app(scope, receive, send_and_look)
        except BaseException as error:
            if record.status is None and record.close_code is None:
                record.reason = record.reason or type(error).__name__
                record.is_failed = isinstance(error, Exception)
            raise
        finally:
            _current.reset(token)
            record.duration_s = self._clock_s() - started_s
            self._finish(scope, record)

    def _finish(self, scope: Scope, record: RequestRecord) -> None:
        record.door, is_page = self._doors.of(scope)
        is_quiet = is_page and (record.status or 0) < 400
        if self._metrics is not None and (record.is_failed or (record.status or 0) >= 400):
            status = record.status if record.close_code is None else record.close_code
            self._metrics.failed(record.door, str(status or ""), record.reason, time.time())
        if is_quiet and not _STANDARD_LOG.isEnabledFor(logging.DEBUG):
            return
        caller = caller_of(scope)
        record.request_id = Headers(scope=scope).get(HEADER, "")
        record.key_id, record.key_name = caller.key_id, caller.name
        client = scope.get("client")
        record.address = caller.address or (str(client[0])[:MAX_ADDRESS_CHARS] if client else "")
        record.method = scope.get("method", "WS") if scope["type"] == "http" else "WS"
        fields = record.fields()
        # The request id is on the line already, as on all lines of this request.
        shown = {name: value for name, value in fields.items() if name != "request_id"}
        if is_quiet:
            log.debug("request", **shown)
            return
        log.info("request", **shown)
        if self._keep is not None:
            self._keep(fields)


class _Doors:
    """Doors by the path that was asked: their templates are fit to be written down, paths are not."""

    def __init__(self, described: Iterable[Described]) -> None:
        self._by_path: dict[str, str] = {}
        self._templates: list[tuple[Any, str]] = []
        self._pages: set[str] = set()
        for one in described:
            shown = one.documented_path if isinstance(one, Operation) else one.path
            if "{" in one.path:
                self._templates.append((compile_path(one.path)[0], shown))
            else:
                self._by_path[one.path] = shown
            if isinstance(one, Operation) and not one.needs_key:
                self._pages.add(shown)

    def of(self, scope: Scope) -> tuple[str, bool]:
        """The door, and whether it is a page that needs no key."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        door = self._by_path.get(path)
        if door is None:
            door = next((shown for pattern, shown in self._templates if pattern.match(path)), UNKNOWN_DOOR)
        return door, door in self._pages
