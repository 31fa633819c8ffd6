"""A recording's text as OpenAI's server-sent events, segment by segment while the rest is still decoded."""

from __future__ import annotations

from contextlib import ExitStack

from starlette.requests import Request
from starlette.responses import Response

from serve_app.core.errors import InternalError, SottoError
from serve_app.protocols.openai.answer import EVENT_STREAM_TYPE, KEEP_ALIVE, StreamedTranscript
from serve_app.protocols.openai.request import TranscriptionRequest
from serve_app.service.contract import RecordingOptions, RecordingSegment
from serve_app.web.door import Door
from serve_app.web.duplex import STREAM_HEADERS
from serve_app.web.recordings import Audio, Heard, heard
from serve_app.web.told_answer import FAILED, told_as_heard
from serve_app.web.uploads import warning_headers


class _Events:
    """`StreamedTranscript` as the answer of a door; short recordings are told by segment too."""

    media_type = EVENT_STREAM_TYPE
    keep_alive = KEEP_ALIVE

    def __init__(self, asked: TranscriptionRequest) -> None:
        self._events = StreamedTranscript(asked)
        self._num_told = 0

    def segment(self, segment: RecordingSegment) -> bytes:
        self._num_told += 1
        return self._events.segment(segment)

    def done(self, result: Heard, *, is_late: bool) -> bytes:
        untold = result.transcript.segments[self._num_told :]
        warning = result.warning if is_late else None
        last = self._events.done(result.transcript, warning, complete=result.complete)
        return b"".join(map(self.segment, untold)) + last

    def failed(self, error: SottoError) -> bytes:
        return self._events.failed(InternalError("internal error") if error is FAILED else error)


async def streamed_answer(
    request: Request,
    door: Door,
    asked: TranscriptionRequest,
    audio: Audio,
    options: RecordingOptions,
    held: ExitStack,
) -> Response:
    """Of a recording that was transcribed before, all at once. Raises as `heard` what goes wrong before the
    answer has begun; what is `held` is released when it has been sent or given up."""
    events = _Events(asked)
    told = await told_as_heard(
        door, lambda telling: heard(request, door, audio, options, telling=telling), events, held
    )
    if not isinstance(told, Heard):
        return told
    headers = STREAM_HEADERS | warning_headers(told.warning, told.complete)
    return Response(events.done(told, is_late=False), media_type=EVENT_STREAM_TYPE, headers=headers)
