"""A recording's text as server-sent events, segment by segment while the rest is still being decoded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serve_app.audio.recording_stream import RecordingStream
from serve_app.audio.recordings import DecodedRecording
from serve_app.core.errors import InternalError, SottoError
from serve_app.protocols.openai.answer import EVENT_STREAM_TYPE, KEEP_ALIVE, StreamedTranscript
from serve_app.protocols.openai.request import TranscriptionRequest
from serve_app.service.contract import RecordingOptions, RecordingSegment, RecordingTranscript
from serve_app.web.door import Door
from serve_app.web.duplex import Duplex
from serve_app.web.request_records import current_record
from serve_app.web.uploads import OpenedAudio, samples_of, until_gone, warning_headers

log = structlog.get_logger(__name__)


async def streamed_answer(
    request: Request,
    door: Door,
    asked: TranscriptionRequest,
    options: RecordingOptions,
    recording: OpenedAudio,
    *,
    on_closed: Callable[[], None],
) -> Response:
    """The answer, once the recording is admitted. Raises what `SpeechService.transcribe` refuses at once.

    `on_closed` is called when it has been sent or given up; not where this raises.
    """
    segments: asyncio.Queue[RecordingSegment | None] = asyncio.Queue()
    working = asyncio.ensure_future(
        door.within_time(
            door.service.transcribe(samples_of(recording), options, on_segment=segments.put_nowait)
        )
    )
    working.add_done_callback(lambda _: segments.put_nowait(None))
    await asyncio.sleep(0)  # its first step: whether it is admitted
    if working.done() and (error := working.exception()) is not None:
        raise error

    is_whole = isinstance(recording, DecodedRecording)

    def closed() -> None:
        working.cancel()
        on_closed()

    return Duplex(
        _events(request, door, asked, working, segments, recording),
        media_type=EVENT_STREAM_TYPE,
        max_stall_s=door.settings.idle_timeout_s,
        on_closed=closed,
        # Of one that is still being read it is known at the end, and is a part of the last event then.
        headers=warning_headers(recording.warning, recording.complete) if is_whole else None,
    )


async def _events(
    request: Request,
    door: Door,
    asked: TranscriptionRequest,
    working: asyncio.Future[RecordingTranscript],
    segments: asyncio.Queue[RecordingSegment | None],
    recording: OpenedAudio,
) -> AsyncGenerator[bytes, None]:
    """Ends early, and with it the work, when the client has gone."""
    began_s = perf_counter()
    events = StreamedTranscript(asked)
    leaving = asyncio.create_task(until_gone(request))
    upcoming: asyncio.Task[RecordingSegment | None] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.create_task(segments.get())
            await asyncio.wait(
                (upcoming, leaving), timeout=door.settings.heartbeat_s, return_when=asyncio.FIRST_COMPLETED
            )
            if upcoming.done():
                segment, upcoming = upcoming.result(), None
                if segment is None:
                    break
                yield events.segment(segment)
            elif leaving.done():
                return
            else:
                yield KEEP_ALIVE
        transcript = working.result()
        current_record().transcribed(transcript)
        late = recording if isinstance(recording, RecordingStream) else None
        yield events.done(transcript, late.warning if late else None, complete=not late or late.complete)
        door.metrics.request_done(perf_counter() - began_s, recording.duration_s)
    except ClientDisconnect:
        return
    except SottoError as error:
        door.metrics.request_failed()
        current_record().failed(error)
        yield events.failed(error)
    except Exception:
        door.metrics.request_failed()
        log.exception("streamed transcription failed")
        yield events.failed(InternalError("internal error"))
    finally:
        for task in (working, leaving, upcoming):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (working, leaving, upcoming) if task), return_exceptions=True)
