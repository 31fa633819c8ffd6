"""The live shell: it pumps frames between a socket and live sessions, both ways at once, for any dialect.

    waiting    until the dialect opens a session; what is refused leaves the socket open for another try
    live       reader, pumps, sender, watch and pulse run beside each other until one of them settles it
    finishing  what was spoken is still delivered, and the reason why the session ends

The reader never sends: a client that reads nothing until it has sent everything must not block its own
audio. It waits only where audio is taken, which is how audio faster than the server is slowed down. What is
not read waits in the `Outbox`, bounded in bytes: a client that does not read slows nobody but itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress

import structlog
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.errors import (
    ClientError,
    InternalError,
    InvalidMessage,
    PayloadTooLarge,
    SottoError,
)
from serve_app.events import EndReason, SessionEnded
from serve_app.protocols.dialect import (
    Audio,
    Cancel,
    Command,
    Dialect,
    End,
    EndUnlessMore,
    FinishesWhenIdle,
    Flush,
    Frame,
    KeepAlive,
    KnowsClock,
    KnowsOpening,
    KnowsSpeakers,
    Open,
    OpensAtOnce,
    Reconfigure,
    Reply,
    Totals,
)
from serve_app.service import LiveSession
from serve_app.web.door import Door
from serve_app.web.live.channels import Channels, with_reason
from serve_app.web.live.gathering import Gathering, unit_bytes
from serve_app.web.live.intake import Intake, open_intake
from serve_app.web.live.outbox import MAX_UNREAD_BYTES, Outbox
from serve_app.web.live.outcome import (
    DONE,
    IDLE,
    INTERNAL_CLOSE,
    NORMAL_CLOSE,
    POLICY_CLOSE,
    UNREAD,
    Ending,
    Outcome,
)
from serve_app.web.live.pulse import pulse
from serve_app.web.live.quiet import Quiet
from serve_app.web.live.restraint import Restraint
from serve_app.web.live.sender import Sender
from serve_app.web.refusals import MAX_REFUSALS

log = structlog.get_logger(__name__)

MORE_S = 3.0
"""How long after what may be the end another frame may follow."""

LAST_FRAMES_S = 5.0
"""How long the last frames of a connection may take, once it ends anyway."""

SENDER, PUMP = "sender", "pump"
"""Tasks that go on while the others have ended."""

TEXT_FRAME_FACTOR = 2
"""Text frames may be longer than audio by this: base64 and the JSON around it."""


class LiveSocket:
    """One connection from accept to close; `drain_timeout_s` bounds the finishing."""

    def __init__(
        self,
        websocket: WebSocket,
        door: Door,
        dialect: Dialect,
        *,
        subprotocol: str | None = None,
        drain_timeout_s: float = 30.0,
        max_unread_bytes: int = MAX_UNREAD_BYTES,
    ) -> None:
        self._websocket = websocket
        self._door = door
        self._dialect = dialect
        self._subprotocol = subprotocol
        self._drain_timeout_s = drain_timeout_s
        self._now_s = asyncio.get_running_loop().time
        self._outbox = Outbox(max_unread_bytes)
        self._restraint = Restraint(websocket.headers.get("user-agent", ""), self._now_s)
        self._sender = Sender(websocket, dialect, self._outbox, self._restraint)
        self._channels = Channels(door, anchored=self._anchored)
        self._command: Open | None = None
        self._intake: Intake | None = None
        self._gathering: Gathering | None = None
        self._quiet: Quiet | None = None
        self._digest = hashlib.sha256()
        self._outcome = Outcome()
        self._num_refusals_left = MAX_REFUSALS
        self._num_frames = 0
        self._open_was_tried = self._busy = self._ended = self._told_end = False
        self._ending: Ending | None = None
        self._heard_s = self._now_s()

    async def run(self) -> None:
        """Serve the connection until it is closed, whoever closes it."""
        await self._websocket.accept(self._subprotocol)
        with self._door.connection(), suppress(WebSocketDisconnect, WebSocketDisconnected):
            sender = self._outcome.start(self._sender.run(), SENDER)
            try:
                await self._close(await self._converse_safely(), sender)
            finally:
                await self._stop()

    async def _converse_safely(self) -> int:
        try:
            return await self._converse()
        except (WebSocketDisconnect, WebSocketDisconnected):
            raise
        except Exception:
            log.exception("live socket failed", session_id=self._channels.session_id)
            self._refuse(InternalError("internal error"))
            return INTERNAL_CLOSE
        finally:
            await self._outcome.cancel(but=(SENDER,))

    async def _converse(self) -> int:
        self._say(self._dialect.accepted())
        try:
            if isinstance(self._dialect, OpensAtOnce):
                for command in self._dialect.open_at_once():
                    await self._obey(command)
        except SottoError as error:
            self._refuse(error)
            return error.close_code
        for work in (self._read(), self._watch(), self._overflow()):
            self._outcome.start(work)
        ending = await self._outcome.wait()
        self._restraint.release()
        if ending is None:
            return INTERNAL_CLOSE if self._channels.failed else NORMAL_CLOSE
        self._ending = ending
        await self._outcome.cancel(but=(SENDER, PUMP))
        if self._channels.is_open:
            await self._finish(ending)
        return ending.close_code

    async def _stop(self) -> None:
        await self._outcome.cancel()
        try:
            if self._intake is not None:
                await self._intake.aclose()
        finally:
            self._channels.close()

    # from the client

    async def _read(self) -> None:
        while not self._outcome.is_settled:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
            self._heard_s = self._now_s()
            self._busy = True
            self._open_was_tried = False
            try:
                await self._take(message)
            except SottoError as error:
                self._refuse_or_end(error, is_binary=message.get("bytes") is not None)
            finally:
                self._busy = False
                self._heard_s = self._now_s()

    async def _take(self, message: Message) -> None:
        data: bytes | None = message.get("bytes")
        frame: Frame = message["text"] if data is None else data
        self._num_frames += 1
        max_bytes = self._door.settings.max_frame_bytes * (TEXT_FRAME_FACTOR if data is None else 1)
        if len(frame) > max_bytes:
            kind = "text" if data is None else "audio"
            raise PayloadTooLarge(f"{kind} frame of {len(frame)} bytes, the limit is {max_bytes}")
        for command in self._dialect.receive(frame):
            if self._gathering is not None and not isinstance(command, Audio):
                await self._gathering.done()
            await self._obey(command)

    def _refuse_or_end(self, error: SottoError, *, is_binary: bool) -> None:
        """Say what is wrong; go on unless no other try helps."""
        self._num_refusals_left -= 1
        self._refuse(error)
        is_hopeless = not isinstance(error, ClientError) or (self._open_was_tried and is_binary)
        if isinstance(error, PayloadTooLarge) or (is_hopeless and not self._channels.is_open):
            self._outcome.settle(Ending(EndReason.ERROR, error.close_code))
        elif self._num_refusals_left <= 0:
            self._outcome.settle(Ending(EndReason.ERROR, POLICY_CLOSE))

    async def _obey(self, command: Command) -> None:
        match command:
            case Audio(data):
                await self._hear(data)
            case Open():
                self._open(command)
            case Reply(frames):
                self._say(frames)
            case End():
                await self._end()
            case EndUnlessMore():
                self._outcome.start(self._end_unless_more(self._num_frames))
            case Cancel():
                self._ended = True
                self._channels.cancel(EndReason.CANCELLED)
                if not self._channels.is_open:
                    self._outcome.settle(DONE)
            case Flush(channel) if self._channels.is_open and not self._ended:
                self._channels.flush(channel)
                self._restraint.flushed()
            case Reconfigure(choices) if self._channels.is_open and not self._ended:
                self._channels.reconfigure(choices)
            case Flush() | Reconfigure() | KeepAlive():
                pass

    def _open(self, command: Open) -> None:
        self._open_was_tried = True
        if self._channels.is_open:
            raise InvalidMessage("the session has already started")
        sessions = self._channels.open(command)
        self._command = command
        if isinstance(self._dialect, KnowsSpeakers) and self._channels.tells_speakers:
            self._dialect.names_speakers()
        if isinstance(self._dialect, KnowsOpening):
            self._dialect.opened(sessions[0].session_id)
        for channel, session in enumerate(sessions):
            self._outcome.start(self._pump(channel, session), PUMP)
        self._outcome.start(self._limit())
        by_default = isinstance(self._dialect, FinishesWhenIdle) and self._dialect.finishes_when_idle()
        idle_s = self._door.idle_final_s(command.choices, self._channels.options, by_default=by_default)
        if idle_s:
            self._quiet = Quiet(idle_s, self._finish_utterance)
            self._outcome.start(self._quiet.run())
        self._outcome.start(
            pulse(self._dialect, self._channels, self._door, self._outbox, lambda: self._sender.said_s)
        )

    async def _hear(self, data: bytes) -> None:
        if self._command is None:
            raise InvalidMessage("audio before the session has started")
        if self._ended:
            raise InvalidMessage("audio after the end of the session")
        self._digest.update(data)
        if self._gathering is None:
            self._gathering = self._open_intake()
        await self._gathering.take(data)

    def _open_intake(self) -> Gathering:
        intake = self._intake = open_intake(
            self._channels.audio,
            self._push,
            fail=self._container_failed,
            warn=self._refuse,
            allowed_formats=self._door.allowed_formats,
            max_samples=round(self._door.settings.max_session_s * SAMPLE_RATE_HZ),
        )

        async def give(data: bytes) -> None:
            if self._quiet is not None:
                self._quiet.taking()
            await intake.take(data)
            self._heard_s = self._now_s()
            if self._quiet is not None:
                self._quiet.taken()

        return Gathering(give, unit_bytes(self._channels.audio), self._outcome.start)

    async def _push(self, channel: int, samples: Pcm16) -> None:
        if channel == 0:
            self._restraint.heard(len(samples) / SAMPLE_RATE_HZ)
        try:
            await self._channels.push(channel, samples)
        except SottoError as error:
            self._refuse(error)

    def _container_failed(self, error: SottoError) -> None:
        """What came before the damage is still transcribed; nothing behind it can be."""
        self._refuse(error)
        self._outcome.settle(Ending(EndReason.ERROR, error.close_code))

    def _finish_utterance(self) -> None:
        """A final of what was said, though nobody asked."""
        if not self._ended:
            self._channels.flush(None)

    def _anchored(self, unix_s: float) -> None:
        if isinstance(self._dialect, KnowsClock):
            self._dialect.anchored(unix_s)

    async def _end(self) -> None:
        if not self._channels.is_open:
            self._outcome.settle(DONE)
        elif not self._ended:
            self._ended = True
            await self._finish_audio()

    async def _end_unless_more(self, num_frames: int) -> None:
        await asyncio.sleep(MORE_S)
        if self._num_frames == num_frames:
            await self._end()

    async def _finish_audio(self) -> None:
        """Push what the decoders still hold, then end the sessions; goes on where it was interrupted."""
        if self._gathering is not None:
            await self._gathering.done()
        if self._intake is not None:
            await self._intake.finish()
        if not self._told_end:
            self._told_end = True
            self._channels.end()
            self._restraint.release()

    # to the client

    def _say(self, frames: Sequence[Frame]) -> None:
        self._outbox.put_frames(frames)

    def _refuse(self, error: SottoError) -> None:
        self._say(self._dialect.refuse(error))

    async def _pump(self, channel: int, session: LiveSession) -> None:
        """A session's events to the outbox; the last of the last session settles the conversation."""
        async for event in session.events():
            event = with_reason(event, None if self._ending is None else self._ending.reason)
            if (heard := self._channels.heard(channel, event)) is not None:
                self._outbox.put_event(channel, heard)
            if isinstance(event, SessionEnded):
                self._channels.ended(channel, event)
                if self._channels.all_ended.is_set():
                    self._outcome.settle(None)
                return

    # time

    async def _watch(self) -> None:
        """Settles when the connection has been silent for too long.

        While audio may come, silence is that of the client; afterwards it is a client that does not read.
        """
        idle_s = self._door.settings.idle_timeout_s
        while True:
            now_s = self._now_s()
            since_s = (
                self._sender.sending_since_s if self._ended else None if self._is_busy else self._heard_s
            )
            wake_s = (now_s if since_s is None else since_s) + idle_s
            if wake_s <= now_s:
                break
            await asyncio.sleep(wake_s - now_s)
        if self._channels.is_open:
            self._outcome.settle(IDLE)
        else:
            self._refuse(InvalidMessage("no session was started within the idle limit"))
            self._outcome.settle(Ending(EndReason.TIMEOUT, POLICY_CLOSE))

    @property
    def _is_busy(self) -> bool:
        """Whether what the client has said is still being taken."""
        return self._busy or (self._gathering is not None and self._gathering.is_giving)

    async def _limit(self) -> None:
        """Settles when the session has been open for too long."""
        await asyncio.sleep(self._door.settings.max_session_s)
        self._outcome.settle(IDLE)

    async def _overflow(self) -> None:
        await self._outbox.overflowed.wait()
        self._outcome.settle(UNREAD)

    async def _finish(self, ending: Ending) -> None:
        """Deliver what was spoken, within limits; then end it in any case."""
        if not self._told_end and not ending.drop:
            self._ended = True
            with suppress(TimeoutError):
                async with asyncio.timeout(self._drain_timeout_s):
                    await self._finish_audio()
                    await self._channels.all_ended.wait()
        if not self._channels.all_ended.is_set():
            self._channels.cancel(ending.reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._channels.all_ended.wait(), LAST_FRAMES_S)

    async def _close(self, code: int, sender: asyncio.Task[None]) -> None:
        totals = Totals(self._channels.audio_ms, self._channels.num_finals, self._digest.hexdigest())
        self._channels.close()
        self._restraint.release()
        if self._ending is UNREAD:
            self._outbox.clear()
            self._refuse(InvalidMessage(UNREAD.why))
        farewell = self._dialect.farewell(code, totals)
        self._say(farewell.frames)
        self._outbox.close()
        patience_s = self._door.settings.idle_timeout_s if self._ending is None else LAST_FRAMES_S
        await self._sender.until_read(sender, patience_s)
        reason = farewell.reason or ("" if self._ending is None else self._ending.why)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_FRAMES_S):
                await self._websocket.close(farewell.close_code, reason or None)
