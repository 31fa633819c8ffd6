"""A long recording's segments as lines of JSON, each when it is known, while the rest is still being read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import msgspec
import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from serve_app.core.errors import SottoError
from serve_app.protocols.native import ndjson
from serve_app.protocols.native.transcribe import wire_segment, wire_segments
from serve_app.service.contract import RecordingSegment
from serve_app.web.door import Door
from serve_app.web.duplex import Duplex
from serve_app.web.recordings import Heard
from serve_app.web.request_records import current_record
from sotto_client.wire import Detail

log = structlog.get_logger(__name__)

Tell = Callable[[RecordingSegment], None]
_lines = msgspec.json.Encoder().encode_lines


class Damage(msgspec.Struct, frozen=True):
    """The last line where something is wrong with the recording: too late for the headers."""

    warning: str
    complete: bool


async def told_as_heard(
    door: Door, work: Callable[[Tell], Coroutine[Any, Any, Heard]], held: ExitStack
) -> Response | Heard:
    """An answer that has begun with the first segment that `work` tells; what `work` returns or raises where
    it ends before one. What is `held` is released when the answer has been sent or given up."""
    segments: asyncio.Queue[RecordingSegment | None] = asyncio.Queue()
    working = asyncio.ensure_future(work(segments.put_nowait))
    working.add_done_callback(lambda _: segments.put_nowait(None))
    try:
        first = await segments.get()
        if first is None:
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
        _told(door, working, segments, first),
        media_type=ndjson.MEDIA_TYPE,
        max_stall_s=door.settings.idle_timeout_s,
        on_closed=closed,
    )


async def _told(
    door: Door,
    working: asyncio.Future[Heard],
    segments: asyncio.Queue[RecordingSegment | None],
    first: RecordingSegment,
) -> AsyncGenerator[bytes, None]:
    """Ends early, and with it the work, when the client has gone: which `working` sees."""
    num_told = 0
    segment: RecordingSegment | None = first
    try:
        while segment is not None:
            num_told += 1
            yield _lines((wire_segment(num_told, segment),))
            segment = await segments.get()
        result = await working
        last: list[Any] = list(wire_segments(result.transcript)[num_told:])
        if result.warning is not None:
            last.append(Damage(result.warning, result.complete))
        if last:
            yield _lines(last)
    except ClientDisconnect:
        return
    except SottoError as error:
        door.metrics.request_failed()
        current_record().failed(error)
        yield _lines((Detail(detail=str(error)),))
    except Exception:
        door.metrics.request_failed()
        log.exception("transcription failed")
        yield _lines((Detail(detail="Transcription failed"),))
    finally:
        working.cancel()
        await asyncio.wait((working,))
