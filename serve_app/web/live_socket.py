"""The `/ws/stt` shell: it pumps frames between a socket and a live session, both ways at once.

    waiting    until `start_session` is accepted; what is refused leaves the socket open for another try
    live       reader, writer and watch run beside each other until one of them is done
    finishing  what was spoken is still delivered, and the reason why the session ends

The reader never sends: a client that reads nothing until it has sent everything must not block its own
audio. It waits only in `LiveSession.push`, which is how audio faster than the server is slowed down.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from serve_app.audio.pcm import PcmStream
from serve_app.errors import ClientError, InternalError, InvalidMessage, PayloadTooLarge, SottoError
from serve_app.events import EndReason, SessionEnded
from serve_app.protocols import native
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.native import Cancel, EndSession, Flush, StartSession
from serve_app.service import LiveSession
from serve_app.web.door import Door, new_session_id
from serve_app.web.refusals import Refusals

log = structlog.get_logger(__name__)

NORMAL_CLOSE = 1000
POLICY_CLOSE = 1008
INTERNAL_CLOSE = 1011

LAST_FRAMES_S = 5.0
"""How long the last frames of a connection may take, once it ends anyway."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why the shell ends a session, and the close code that says so."""

    reason: EndReason
    close_code: int


_IDLE = _Ending(EndReason.TIMEOUT, NORMAL_CLOSE)


def live_routes(door: Door) -> list[BaseRoute]:
    async def live(websocket: WebSocket) -> None:
        await LiveSocket(websocket, door).run()

    return [WebSocketRoute("/ws/stt", live)]


class LiveSocket:
    """One connection from accept to close; `drain_timeout_s` bounds the finishing."""

    def __init__(self, websocket: WebSocket, door: Door, *, drain_timeout_s: float = 30.0) -> None:
        self._websocket = websocket
        self._door = door
        self._drain_timeout_s = drain_timeout_s
        self._refusals = Refusals(websocket.send_text)
        self._now_s = asyncio.get_running_loop().time
        self._session_id: str | None = None
        self._is_open = False
        self._pcm = PcmStream()
        self._busy = False
        self._ended = False
        self._ending: _Ending | None = None
        self._heard_s = self._now_s()
        self._sending_since_s: float | None = None

    async def run(self) -> None:
        """Serve the connection until it is closed, whoever closes it."""
        await self._websocket.accept()
        with self._door.connection(), suppress(WebSocketDisconnect, WebSocketDisconnected):
            try:
                await self._close(await self._converse_safely())
            finally:
                self._refusals.cancel()

    async def _converse_safely(self) -> int:
        try:
            return await self._converse()
        except (WebSocketDisconnect, WebSocketDisconnected):
            raise
        except Exception:
            log.exception("live socket failed", session_id=self._session_id)
            self._refuse(InternalError("internal error"))
            return INTERNAL_CLOSE
        finally:
            if self._is_open and self._session_id is not None:
                self._door.service.session_closed(self._session_id)

    async def _converse(self) -> int:
        try:
            session = await self._wait_for_start()
        except TimeoutError:
            self._refuse(InvalidMessage("no start_session within the idle limit"))
            return POLICY_CLOSE
        except SottoError as error:
            self._refuse(error)
            return error.close_code
        return await self._serve(session)

    # waiting

    async def _wait_for_start(self) -> LiveSession:
        """Raises `TimeoutError` when nothing comes, and the `SottoError` after which no other try helps."""
        idle_s = self._door.settings.idle_timeout_s
        async with asyncio.timeout(idle_s) as limit:
            while True:
                message = await self._receive()
                limit.reschedule(self._now_s() + idle_s)
                try:
                    return self._open(message)
                except PayloadTooLarge:
                    raise
                except ClientError as error:
                    self._refuse(error)
                    if self._refusals.exhausted:
                        raise InvalidMessage("too many invalid messages") from None

    def _open(self, message: Message) -> LiveSession:
        audio = message.get("bytes")
        if audio is not None:
            self._check_size(audio)
            raise InvalidMessage("audio before start_session")
        command = native.decode_command(message["text"])
        if not isinstance(command, StartSession):
            raise InvalidMessage("the first message must be start_session")
        choices = command.config or SessionChoices()
        self._session_id = command.session_id or new_session_id()
        options = choices.session_options(self._session_id, self._door.session_defaults())
        self._pcm = PcmStream(choices.pcm_encoding, choices.sample_rate_hz)
        session = self._door.service.open_session(options)
        self._is_open = True
        return session

    # live

    async def _serve(self, session: LiveSession) -> int:
        self._heard_s = self._now_s()
        writer = asyncio.create_task(self._write(session))
        reader = asyncio.create_task(self._read(session))
        watch = asyncio.create_task(self._watch())
        tasks = (writer, reader, watch)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not writer.done():
                self._ending = reader.result() if reader.done() else _IDLE
                reader.cancel()
                await self._finish(session, writer)
            ended = writer.result() if writer.done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._ending is not None:
            return self._ending.close_code
        return INTERNAL_CLOSE if ended is None or ended.reason is EndReason.ERROR else NORMAL_CLOSE

    async def _finish(self, session: LiveSession, writer: asyncio.Task[SessionEnded | None]) -> None:
        assert self._ending is not None
        if not self._ended:
            self._ended = True
            session.end()
            await asyncio.wait([writer], timeout=self._drain_timeout_s)
        if not writer.done():
            session.cancel(self._ending.reason)
            await asyncio.wait([writer], timeout=LAST_FRAMES_S)

    async def _write(self, session: LiveSession) -> SessionEnded | None:
        async for event in session.events():
            if isinstance(event, SessionEnded):
                if self._ending is not None and event.reason is EndReason.COMPLETED:
                    event = replace(event, reason=self._ending.reason)
                await self._refusals.flushed()
            frame = native.encode_event(event, session.session_id)
            self._sending_since_s = self._now_s()
            await self._websocket.send_text(frame.decode())
            self._sending_since_s = None
            if isinstance(event, SessionEnded):
                return event
        return None

    async def _read(self, session: LiveSession) -> _Ending:
        while True:
            message = await self._receive()
            self._heard_s = self._now_s()
            self._busy = True
            try:
                await self._take(session, message)
            except PayloadTooLarge as error:
                self._refuse(error)
                return _Ending(EndReason.ERROR, error.close_code)
            except SottoError as error:
                self._refuse(error)
                if self._refusals.exhausted:
                    return _Ending(EndReason.ERROR, POLICY_CLOSE)
            finally:
                self._busy = False
                self._heard_s = self._now_s()

    async def _take(self, session: LiveSession, message: Message) -> None:
        audio = message.get("bytes")
        if audio is None:
            await self._obey(session, message["text"])
            return
        self._check_size(audio)
        if self._ended:
            raise InvalidMessage("audio after end_session")
        samples = self._pcm.push(audio, strict=True)
        if len(samples):
            await session.push(samples)

    async def _obey(self, session: LiveSession, text: str) -> None:
        match native.decode_command(text):
            case StartSession():
                raise InvalidMessage("the session has already started")
            case Cancel():
                self._ended = True
                session.cancel()
            case Flush() if not self._ended:
                session.flush()
            case EndSession() if not self._ended:
                self._ended = True
                tail = self._pcm.finish()
                if len(tail):
                    await session.push(tail)
                session.end()

    async def _watch(self) -> None:
        """Returns when the connection has been silent, or the session open, for too long.

        While audio may come, silence is that of the client; afterwards it is a client that does not read.
        """
        idle_s = self._door.settings.idle_timeout_s
        last_s = self._now_s() + self._door.settings.max_session_s
        while True:
            now_s = self._now_s()
            since_s = self._sending_since_s if self._ended else None if self._busy else self._heard_s
            wake_s = min((now_s if since_s is None else since_s) + idle_s, last_s)
            if wake_s <= now_s:
                return
            await asyncio.sleep(wake_s - now_s)

    # both

    async def _receive(self) -> Message:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
        return message

    def _check_size(self, audio: bytes) -> None:
        max_bytes = self._door.settings.max_frame_bytes
        if len(audio) > max_bytes:
            raise PayloadTooLarge(f"audio frame of {len(audio)} bytes, the limit is {max_bytes}")

    def _refuse(self, error: SottoError) -> None:
        self._refusals.put(native.encode_error(error, self._session_id).decode())

    async def _close(self, code: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_FRAMES_S):
                await self._refusals.flushed()
                await self._websocket.close(code)
