"""A recording's segments, each told when it is known, while the rest is still being read or decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import ExitStack, suppress
from typing import Any, Final, Protocol

import msgspec
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from serve_app.core.errors import InternalError, SottoError
from serve_app.protocols.native import ndjson
from serve_app.protocols.native.transcribe import wire_segment, wire_segments
from serve_app.protocols.openai.answer import EVENT_STREAM_TYPE
from serve_app.service.contract import RecordingSegment
from serve_app.web.door import Door
from serve_app.web.duplex import Duplex
from serve_app.web.recordings import Heard, Telling
from serve_app.web.request_records import current_record
from serve_app.web.uploads import warning_headers
from sotto_client.wire import Detail

log = structlog.get_logger(__name__)

FAILED: Final = InternalError("Transcription failed")
_encode = msgspec.json.encode


class Writer(Protocol):
    """What the parts of one answer look like. `keep_alive` is sent while there is nothing to tell, unless it
    is empty: the answer then begins with its first segment."""

    media_type: str
    keep_alive: bytes

    def segment(self, segment: RecordingSegment) -> bytes:
        """The next one."""

    def done(self, result: Heard, *, is_late: bool) -> bytes:
        """What goes last. `is_late`: what is wrong with the audio could not be said in the headers."""

    def failed(self, error: SottoError) -> bytes:
        """What goes last instead."""


async def told_as_heard(
    door: Door, work: Callable[[Telling], Coroutine[Any, Any, Heard]], writer: Writer, held: ExitStack
) -> Response | Heard:
    """An answer that has begun with the first segment that `work` tells; what `work` returns or raises where
    it ends before one. What is `held` is released when the answer has been sent or given up."""
    telling = Telling(short_too=bool(writer.keep_alive))
    working = asyncio.ensure_future(work(telling))
    working.add_done_callback(lambda _: telling.ended())
    beat_s = door.settings.heartbeat_s if writer.keep_alive else None
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(beat_s):
                await telling.begun.wait()
        if working.done() and telling.segments.qsize() == 1:
            return await working
    except BaseException:
        working.cancel()
        await asyncio.wait((working,))
        raise
    released = held.pop_all()

    def closed() -> None:
        working.cancel()
        released.close()

    return Duplex(
        _told(door, working, telling, writer, beat_s),
        media_type=writer.media_type,
        max_stall_s=door.settings.idle_timeout_s,
        on_closed=closed,
        headers=telling.headers,
    )


async def _told(
    door: Door, working: asyncio.Future[Heard], telling: Telling, writer: Writer, beat_s: float | None
) -> AsyncGenerator[bytes, None]:
    """Ends early, and with it the work, when the client has gone: which `working` sees."""
    try:
        while True:
            try:
                async with asyncio.timeout(beat_s):
                    segment = await telling.segments.get()
            except TimeoutError:
                yield writer.keep_alive
                continue
            if segment is None:
                break
            yield writer.segment(segment)
        last = writer.done(await working, is_late=telling.is_late)
        if last:
            yield last
    except ClientDisconnect:
        return
    except SottoError as error:
        door.metrics.request_failed()
        current_record().failed(error)
        yield writer.failed(error)
    except Exception:
        door.metrics.request_failed()
        log.exception("transcription failed")
        yield writer.failed(FAILED)
    finally:
        working.cancel()
        await asyncio.wait((working,))


class Damage(msgspec.Struct, frozen=True):
    """The last line where something is wrong with the recording: too late for the headers."""

    warning: str
    complete: bool


class Lines:
    """A line of JSON for each segment, or with `as_events` a server-sent event. Recordings that end within a
    minute are told at their end."""

    keep_alive = b""

    def __init__(self, *, as_events: bool = False) -> None:
        self.media_type = EVENT_STREAM_TYPE if as_events else ndjson.MEDIA_TYPE
        self._before, self._after = (b"data: ", b"\n\n") if as_events else (b"", b"\n")
        self._num_told = 0

    def segment(self, segment: RecordingSegment) -> bytes:
        self._num_told += 1
        return self._written((wire_segment(self._num_told, segment),))

    def done(self, result: Heard, *, is_late: bool) -> bytes:
        last: list[Any] = list(wire_segments(result.transcript)[self._num_told :])
        if is_late and result.warning is not None:
            last.append(Damage(result.warning, result.complete))
        return self._written(last)

    def failed(self, error: SottoError) -> bytes:
        return self._written((Detail(detail=str(error)),))

    def whole(self, result: Heard) -> Response:
        """The answer of which nothing was told before."""
        return Response(
            self.done(result, is_late=False),
            media_type=self.media_type,
            headers=warning_headers(result.warning, result.complete),
        )

    def _written(self, records: Iterable[Any]) -> bytes:
        return b"".join(self._before + _encode(record) + self._after for record in records)
