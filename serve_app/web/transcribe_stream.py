"""`POST /transcribe/stream`: audio in and NDJSON out over one request, both at once.

The body is a container (`audio/*`) or raw samples (`audio/pcm;rate=16000`); options are query parameters.
What is wrong before the first line is an HTTP status; later it is an `error` line, after which what was
spoken is still delivered, up to `session_ended`, the last line.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.errors import InternalError, InvalidMessage, SottoError
from serve_app.events import EndReason, Event, SessionEnded
from serve_app.protocols import ndjson
from serve_app.protocols.choices import choices_from_query
from serve_app.protocols.media_type import AudioBody, RawAudio, parse_audio_type
from serve_app.service import LiveSession
from serve_app.speakers.turns import SpeakerMode
from serve_app.web.audio_bodies import pump_container, pump_raw
from serve_app.web.door import Door, new_session_id
from serve_app.web.duplex import Duplex

log = structlog.get_logger(__name__)

DRAIN_TIMEOUT_S = 30.0
"""How long a session that we end may take to deliver what was spoken."""


def transcribe_stream_routes(door: Door) -> list[BaseRoute]:
    async def transcribe_stream(request: Request) -> Response:
        body = parse_audio_type(request.headers.get("content-type"))
        session_id, choices = choices_from_query(request.query_params.multi_items())
        if isinstance(body, RawAudio):
            encoding = choices.pcm_encoding if choices.encoding else body.encoding
            rate_hz = choices.sample_rate_hz if choices.sample_rate else body.sample_rate_hz
            channels = choices.channels or body.channels
            body = replace(body, encoding=encoding, sample_rate_hz=rate_hz, channels=channels)
        named = session_id or new_session_id()
        options = choices.session_options(named, door.session_defaults(), door.settings.diarization_backend)
        if options.speakers is SpeakerMode.CHANNEL:
            if choices.wants_speakers:
                raise InvalidMessage("each channel is a speaker, and channels are mixed here: use /ws/stt")
            options = replace(options, speakers=SpeakerMode.OFF)
        session = door.service.open_session(options)
        speakers = options.speakers is not SpeakerMode.OFF
        lines = ndjson.EventLines(session.session_id, speakers=speakers)
        return Duplex(
            StreamedSession(
                request,
                session,
                body,
                door,
                lines,
                door.idle_final_s(choices, options, by_default=True),
            ).lines(),
            media_type=ndjson.MEDIA_TYPE,
            max_stall_s=door.settings.max_session_s,
            on_closed=lambda: door.service.session_closed(options.session_id, session),
        )

    return [Route("/transcribe/stream", transcribe_stream, methods=["POST"])]


class StreamedSession:
    """One request: its body into a session, the session's events out as lines."""

    def __init__(
        self,
        request: Request,
        session: LiveSession,
        body: AudioBody,
        door: Door,
        lines: ndjson.EventLines,
        idle_final_s: float = 0.0,
    ) -> None:
        self._lines = lines
        self._idle_final_s = idle_final_s
        self._flushed = True
        self._request = request
        self._session = session
        self._body = body
        self._door = door
        self._now_s = asyncio.get_running_loop().time
        self._num_samples = 0
        self._uploading = True
        self._waiting = True
        self._ending: EndReason | None = None
        self._heard_s = self._said_s = started_s = self._now_s()
        self._limit_s = started_s + door.settings.max_session_s

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """NDJSON lines; ends with `session_ended`, or silently when the client has gone."""
        incoming: asyncio.Task[SottoError | None] = asyncio.create_task(self._read())
        upcoming: asyncio.Task[Event | None] | None = None
        events = self._session.events()
        try:
            while True:
                upcoming = upcoming or asyncio.create_task(_next(events))
                await asyncio.wait(
                    (upcoming, incoming), timeout=self._patience_s(), return_when=asyncio.FIRST_COMPLETED
                )
                if upcoming.done():
                    event, upcoming = upcoming.result(), None
                    if event is None:
                        return
                    yield self._line(event)
                    if isinstance(event, SessionEnded):
                        return
                elif incoming.done():
                    error = incoming.result()
                    if error is not None:
                        yield ndjson.error_line(error, self._session.session_id)
                    self._end(EndReason.ERROR if error is not None else None)
                    incoming = asyncio.create_task(self._wait_until_gone())
                elif self._is_quiet():
                    self._flushed = True
                    self._session.flush()
                    continue
                elif not self._overdue():
                    yield ndjson.heartbeat_line(self._num_samples)
                elif self._uploading:
                    incoming.cancel()
                    await asyncio.wait([incoming])
                    self._end(EndReason.TIMEOUT)
                    incoming = asyncio.create_task(self._wait_until_gone())
                else:
                    self._limit_s = float("inf")
                    self._session.cancel(self._ending or EndReason.TIMEOUT)
                self._said_s = self._now_s()
        except ClientDisconnect:
            return
        except Exception:
            log.exception("streamed session failed", session_id=self._session.session_id)
            yield ndjson.error_line(InternalError("internal error"), self._session.session_id)
            yield self._line(SessionEnded(EndReason.ERROR, self._num_samples, 0))
        finally:
            tasks = [task for task in (incoming, upcoming) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> SottoError | None:
        """Take the whole body; the error is what was wrong with it. Raises `ClientDisconnect`."""
        try:
            if isinstance(self._body, RawAudio):
                await pump_raw(self._chunks(), self._body, self._push)
            else:
                await pump_container(
                    self._chunks(),
                    self._push,
                    allowed_formats=self._door.allowed_formats,
                    max_samples=round(self._door.settings.max_session_s * SAMPLE_RATE_HZ),
                )
        except SottoError as error:
            return error
        return None

    async def _chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._request.stream():
            self._waiting = False
            yield chunk
            self._waiting = True
            self._flushed = self._flushed and not chunk
            self._heard_s = self._now_s()

    async def _push(self, samples: Pcm16) -> None:
        await self._session.push(samples)
        self._num_samples += len(samples)

    async def _wait_until_gone(self) -> SottoError | None:
        """What is left of the body is read and dropped, so that the client can finish sending."""
        while (await self._request.receive())["type"] != "http.disconnect":
            continue
        raise ClientDisconnect

    def _end(self, reason: EndReason | None) -> None:
        """No more audio; `reason` where it is we who end it."""
        self._uploading = False
        if self._ending is None and reason is not None:
            self._ending = reason
            self._limit_s = min(self._limit_s, self._now_s() + DRAIN_TIMEOUT_S)
        self._session.end()

    def _line(self, event: Event) -> bytes:
        if isinstance(event, SessionEnded) and event.reason is EndReason.COMPLETED and self._ending:
            event = replace(event, reason=self._ending)
        return self._lines.line(event)

    def _deadline_s(self) -> float:
        if self._uploading and self._waiting:
            return min(self._limit_s, self._heard_s + self._door.settings.idle_timeout_s)
        return self._limit_s

    def _quiet_s(self) -> float:
        """When what was said becomes a final because nothing more has come."""
        is_due = self._idle_final_s and self._uploading and self._waiting and not self._flushed
        return self._heard_s + self._idle_final_s if is_due else float("inf")

    def _is_quiet(self) -> bool:
        return self._now_s() >= self._quiet_s()

    def _overdue(self) -> bool:
        return self._now_s() >= self._deadline_s()

    def _patience_s(self) -> float:
        heartbeat_s = self._said_s + self._door.settings.heartbeat_s
        return max(0.0, min(heartbeat_s, self._deadline_s(), self._quiet_s()) - self._now_s())


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)
