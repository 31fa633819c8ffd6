"""The live shell: frames between a client and its live sessions, both ways at once, for any dialect and
transport.

    waiting    until the dialect opens a session; what is refused leaves the connection open for another try
    live       reader, sender, watch and heartbeats run beside each other until one of them settles it
    finishing  what was spoken is still delivered, and the reason why the session ends

The reader never sends: a client that reads nothing until it has sent everything must not block its own
audio. It waits only where audio is taken, which is how audio faster than the server is slowed down. Sessions
put their events straight into the `Outbox`, bounded in bytes: a client that does not read slows only itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

import structlog

from serve_app.access.caller import ANYBODY, Caller
from serve_app.access.limits import Lease, Usage
from serve_app.core.errors import (
    ClientError,
    InternalError,
    InvalidMessage,
    PayloadTooLarge,
    SottoError,
)
from serve_app.core.events import EndReason, Event, Final, SessionEnded
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.protocols.dialect import (
    Audio,
    Cancel,
    Command,
    Dialect,
    End,
    EndUnlessMore,
    Flush,
    Frame,
    KeepAlive,
    Open,
    Reconfigure,
    Reply,
    Totals,
)
from serve_app.web.door import Door
from serve_app.web.live.audio_budget import AudioBudget
from serve_app.web.live.channels import Channels, with_reason
from serve_app.web.live.ending import (
    DONE,
    IDLE,
    INTERNAL_CLOSE,
    KEY_LOST,
    NORMAL_CLOSE,
    POLICY_CLOSE,
    UNREAD,
    Ending,
    LiveTasks,
)
from serve_app.web.live.frame_joiner import FrameJoiner, unit_bytes
from serve_app.web.live.intake import Intake, open_intake
from serve_app.web.live.outbox import MAX_UNREAD_BYTES, Outbox, Sender
from serve_app.web.live.send_limit import SendLimit
from serve_app.web.live.timers import IdleFinal, heartbeats
from serve_app.web.live.transports import ClientGone, Transport
from serve_app.web.request_records import current_record

log = structlog.get_logger(__name__)

LAST_FRAMES_S = 5.0
"""How long the last frames of a connection that we end may take."""

MORE_S = 3.0
"""How long after what may be the end another frame may follow."""

SENDER, DROPPER, TIMER = "sender", "dropper", "timer"
"""Tasks that go on while the others have ended."""

MAX_REFUSALS = 64
"""Errors that one connection may cause before it is closed."""

TEXT_FRAME_FACTOR = 2
"""Text frames may be longer than audio by this: base64 and the JSON around it."""


class LiveShell:
    """One connection from accept to close.

    `caller` owns the session, which ends once their key no longer holds. `max_stall_s`: how long a client may
    take no frame, once its audio or the session has ended; None: for the idle limit, or `LAST_FRAMES_S` where
    we end it. `usage`: what the caller uses of its limits; `refused`: why it is closed, once it is accepted
    and told.
    """

    def __init__(
        self,
        transport: Transport,
        door: Door,
        dialect: Dialect,
        *,
        caller: Caller = ANYBODY,
        usage: Usage,
        refused: SottoError | None = None,
        max_stall_s: float | None = None,
        max_unread_bytes: int | None = None,
    ) -> None:
        self._transport = transport
        self._door = door
        self._dialect = dialect
        self._caller = caller
        self._usage = usage
        self._refused = refused
        self._audio_budget = AudioBudget(usage)
        self._lease: Lease | None = None
        self._max_stall_s = max_stall_s
        self._now_s = asyncio.get_running_loop().time
        self._outbox = Outbox(max_unread_bytes or MAX_UNREAD_BYTES)
        self._send_limit = SendLimit(transport.user_agent, self._now_s)
        self._sender = Sender(
            transport, dialect, self._outbox, self._send_limit, on_text=door.metrics.text_written
        )
        self._channels = Channels(door, caller, anchored=self._dialect.anchored)
        self._command: Open | None = None
        self._intake: Intake | None = None
        self._joiner: FrameJoiner | None = None
        self._idle_final: IdleFinal | None = None
        self._digest = hashlib.sha256()
        self._record = current_record()
        self._tasks = LiveTasks()
        self._num_refusals_left = MAX_REFUSALS
        self._num_frames = 0
        self._open_was_tried = self._busy = self._ended = self._told_end = self._told_why = False
        self._received_s = self._now_s()

    async def run(self, *, open_first: bool = False) -> None:
        """Serve the connection until it is closed, by either side.

        `open_first`: before the connection is accepted; raises the `SottoError` that refuses the session.
        """
        with suppress(ClientGone), self._key_watched():
            try:
                if open_first:
                    await self._open_at_once()
                await self._transport.accept()
                sender = self._tasks.start(self._sender.run(), SENDER)
                await self._close(await self._converse_safely(), sender)
            finally:
                await self._stop()

    def _key_watched(self) -> AbstractContextManager[None]:
        keys, key_id = self._door.keys, self._caller.key_id
        if keys is None or not key_id:
            return nullcontext()
        return keys.watched(key_id, lambda: self._tasks.settle(KEY_LOST))

    async def _converse_safely(self) -> int:
        try:
            return await self._converse()
        except ClientGone:
            raise
        except Exception:
            log.exception("live connection failed", session_id=self._channels.session_id)
            self._refuse(InternalError("internal error"))
            return INTERNAL_CLOSE
        finally:
            await self._tasks.cancel(but=(SENDER, DROPPER))

    async def _converse(self) -> int:
        self._send_frames(self._dialect.accepted())
        try:
            if self._refused is not None:
                raise self._refused
            if not self._channels.is_open:
                await self._open_at_once()
        except SottoError as error:
            self._refuse(error)
            return error.close_code
        for work in (self._read(), self._watch(), self._overflow()):
            self._tasks.start(work)
        if not self._channels.is_open:
            self._tasks.start(self._start_in_time())
        ending = await self._tasks.wait()
        self._send_limit.release()
        if ending is None:
            return INTERNAL_CLOSE if self._channels.failed else NORMAL_CLOSE
        await self._tasks.cancel(but=(SENDER, TIMER))
        self._tasks.start(self._drop_the_rest(), DROPPER)
        if self._channels.is_open:
            await self._finish(ending)
        return ending.close_code

    async def _open_at_once(self) -> None:
        for command in self._dialect.open_at_once():
            await self._obey(command)

    async def _stop(self) -> None:
        await self._tasks.cancel()
        self._note_sizes()
        try:
            if self._intake is not None:
                await self._intake.aclose()
        finally:
            self._channels.close()
            if self._lease is not None:
                self._lease.release()

    def _note_sizes(self) -> None:
        """Also of a session whose client has left, before its channels are given back."""
        if self._channels.is_open:
            self._record.audio_s = self._channels.audio_ms / 1000
            self._record.reason = self._channels.end_reason or self._record.reason

    # from the client

    async def _read(self) -> None:
        while not self._tasks.is_settled:
            frame = await self._transport.receive()
            self._received_s = self._now_s()
            self._busy = True
            self._open_was_tried = False
            try:
                if frame is None:
                    await self._end()
                else:
                    await self._take(frame)
            except SottoError as error:
                self._refuse_or_end(error, is_binary=not isinstance(frame, str))
            finally:
                self._busy = False
                self._received_s = self._now_s()

    async def _drop_the_rest(self) -> None:
        """What the client sends after we have ended is read and dropped, so that it can finish sending; where
        it goes away, there is nothing left to finish."""
        with suppress(ClientGone):
            while True:
                await self._transport.receive()
        self._channels.cancel(EndReason.CANCELLED)

    async def _take(self, frame: Frame) -> None:
        self._num_frames += 1
        is_text = isinstance(frame, str)
        max_bytes = self._door.settings.max_frame_bytes * (TEXT_FRAME_FACTOR if is_text else 1)
        if len(frame) > max_bytes and not self._transport.cuts_frames_anywhere:
            kind = "text" if is_text else "audio"
            raise PayloadTooLarge(f"{kind} frame of {len(frame)} bytes, the limit is {max_bytes}")
        for command in self._dialect.receive(frame):
            if isinstance(command, Audio):
                await self._take_audio(command.data)
                continue
            if self._joiner is not None:
                await self._joiner.flush()
            await self._obey(command)

    def _refuse_or_end(self, error: SottoError, *, is_binary: bool) -> None:
        """Say what is wrong; go on unless no other try helps."""
        self._num_refusals_left -= 1
        self._refuse(error)
        is_hopeless = not isinstance(error, ClientError) or (self._open_was_tried and is_binary)
        if isinstance(error, PayloadTooLarge) or (is_hopeless and not self._channels.is_open):
            self._tasks.settle(Ending(EndReason.ERROR, error.close_code))
        elif self._num_refusals_left <= 0:
            self._tasks.settle(Ending(EndReason.ERROR, POLICY_CLOSE))

    async def _obey(self, command: Command) -> None:
        match command:
            case Audio(data):
                await self._take_audio(data)
            case Open():
                if self._lease is None:
                    self._lease = await self._usage.session()
                self._open(command)
            case Reply(frames):
                self._send_frames(frames)
            case End():
                await self._end()
            case EndUnlessMore():
                self._tasks.start(self._end_unless_more(self._num_frames))
            case Cancel():
                self._ended = True
                self._channels.cancel(EndReason.CANCELLED)
                if not self._channels.is_open:
                    self._tasks.settle(DONE)
            case Flush(channel) if self._channels.is_open and not self._ended:
                self._channels.flush(channel)
                self._send_limit.flushed()
            case Reconfigure(choices) if self._channels.is_open and not self._ended:
                self._channels.reconfigure(choices)
            case Flush() | Reconfigure() | KeepAlive():
                pass

    def _open(self, command: Open) -> None:
        self._open_was_tried = True
        if self._channels.is_open:
            raise InvalidMessage("the session has already started")
        self._channels.open(command)
        self._command = command
        self._record.session_id = self._channels.session_id or ""
        if self._channels.tells_speakers:
            self._dialect.names_speakers()
        self._dialect.opened(self._channels.session_id or "")
        self._channels.start(self._on_event)
        self._tasks.start(self._limit())
        by_default = self._dialect.finishes_when_idle()
        idle_s = self._door.idle_final_s(command.choices, self._channels.options, by_default=by_default)
        if idle_s:
            self._idle_final = IdleFinal(idle_s, self._finish_utterance)
            self._tasks.start(self._idle_final.run())
        beats = heartbeats(
            self._dialect, self._channels, self._door, self._outbox, lambda: self._sender.sent_s
        )
        self._tasks.start(beats, TIMER)
        if command.is_body:
            self._joiner = self._open_intake(command)

    async def _take_audio(self, data: bytes) -> None:
        if self._command is None:
            raise InvalidMessage("audio before the session has started")
        if self._ended:
            raise InvalidMessage("audio after the end of the session")
        if self._joiner is None:
            self._joiner = self._open_intake(self._command)
        await self._joiner.add(data)

    def _open_intake(self, command: Open) -> FrameJoiner:
        intake = self._intake = open_intake(
            self._channels.audio,
            self._push,
            fail=self._audio_failed,
            warn=self._refuse,
            is_body=command.is_body,
            allowed_formats=self._door.allowed_formats,
            max_samples=round(self._door.settings.max_session_s * SAMPLE_RATE_HZ),
        )

        async def take(data: bytes) -> None:
            self._digest.update(data)
            if self._idle_final is not None:
                self._idle_final.taking()
            await intake.take(data)
            self._received_s = self._now_s()
            if self._idle_final is not None:
                self._idle_final.taken()

        return FrameJoiner(take, unit_bytes(self._channels.audio), self._tasks.start)

    async def _push(self, channel: int, samples: Pcm16) -> None:
        if channel == 0:
            self._send_limit.received(len(samples) / SAMPLE_RATE_HZ)
        try:
            if not await self._audio_budget.covers(len(samples) / SAMPLE_RATE_HZ):
                return
        except SottoError as error:
            self._audio_failed(error)
            return
        try:
            await self._channels.push(channel, samples)
        except SottoError as error:
            self._refuse(error)

    def _audio_failed(self, error: SottoError) -> None:
        """What came before the damage is still transcribed; nothing behind it can be."""
        self._refuse(error)
        self._tasks.settle(Ending(EndReason.ERROR, error.close_code))

    def _finish_utterance(self) -> None:
        """A final of what was said, without being asked for one."""
        if not self._ended:
            self._channels.flush(None)

    async def _end(self) -> None:
        if not self._channels.is_open:
            self._tasks.settle(DONE)
        elif not self._ended:
            self._ended = True
            await self._finish_audio()

    async def _end_unless_more(self, num_frames: int) -> None:
        await asyncio.sleep(MORE_S)
        if self._num_frames == num_frames:
            await self._end()

    async def _finish_audio(self) -> None:
        """Push what the decoders still hold, then end the sessions; goes on where it was interrupted."""
        if self._joiner is not None:
            await self._joiner.flush()
        if self._intake is not None:
            await self._intake.finish()
        if not self._told_end:
            self._told_end = True
            self._channels.end()
            self._send_limit.release()

    # to the client

    def _send_frames(self, frames: Sequence[Frame]) -> None:
        self._outbox.put_frames(frames)

    def _refuse(self, error: SottoError) -> None:
        self._record.failed(error)
        self._send_frames(self._dialect.refuse(error))

    def _tell_why(self) -> None:
        """The error for which we end the connection, once."""
        ending = self._tasks.ending
        if ending is not None and ending.error is not None and not self._told_why:
            self._told_why = True
            self._refuse(ending.error)

    def _on_event(self, channel: int, event: Event) -> None:
        """An event of a session, to the outbox; the last one of the last session settles the conversation.

        Called by the service, for which a fault in here would be that of every session.
        """
        if not self._channels.is_open:
            return
        try:
            ending = self._tasks.ending
            event = with_reason(event, None if ending is None else ending.reason)
            if isinstance(event, SessionEnded):
                self._tell_why()
            if (told := self._channels.for_client(channel, event)) is not None:
                self._outbox.put_event(channel, told)
            if isinstance(event, Final):
                self._record.num_finals += 1
                self._record.num_chars += len(event.text)
            if isinstance(event, SessionEnded):
                self._channels.ended(channel, event)
                if self._channels.all_ended.is_set():
                    self._tasks.settle(None)
        except Exception as error:
            self._tasks.fail(error)

    # time

    async def _watch(self) -> None:
        """Settles when the connection has been silent for too long.

        While audio may come, silence is that of the client; afterwards it is a client that does not read.
        """
        idle_s = self._door.settings.idle_timeout_s
        while True:
            now_s = self._now_s()
            if self._ended:
                since_s, limit_s = self._sender.sending_since_s, self._max_stall_s or idle_s
            else:
                since_s, limit_s = None if self._is_busy else self._received_s, idle_s
            wake_s = (now_s if since_s is None else since_s) + limit_s
            if wake_s <= now_s:
                break
            await asyncio.sleep(wake_s - now_s)
        if self._channels.is_open:
            self._tasks.settle(IDLE)
        else:
            self._refuse(InvalidMessage("no session was started within the idle limit"))
            self._tasks.settle(Ending(EndReason.TIMEOUT, POLICY_CLOSE))

    async def _start_in_time(self) -> None:
        """Settles where no session has started, whatever else the client has sent."""
        limit_s = self._door.settings.start_timeout_s
        await asyncio.sleep(limit_s)
        if not self._channels.is_open:
            self._refuse(InvalidMessage(f"no session was started within {limit_s:g} s"))
            self._tasks.settle(Ending(EndReason.TIMEOUT, POLICY_CLOSE))

    @property
    def _is_busy(self) -> bool:
        """Whether what the client has said is still being taken."""
        return self._busy or (self._joiner is not None and self._joiner.is_passing_on)

    async def _limit(self) -> None:
        """Settles when the session has been open for too long."""
        await asyncio.sleep(self._door.settings.max_session_s)
        self._tasks.settle(IDLE)

    async def _overflow(self) -> None:
        await self._outbox.overflowed.wait()
        self._tasks.settle(UNREAD)

    async def _finish(self, ending: Ending) -> None:
        """Deliver what was spoken, within limits; then end it in any case."""
        if not self._told_end and not ending.drop:
            self._ended = True
            with suppress(TimeoutError):
                async with asyncio.timeout(ending.drain_s):
                    await self._finish_audio()
                    await self._channels.all_ended.wait()
        if not self._channels.all_ended.is_set():
            self._channels.cancel(ending.reason)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._channels.all_ended.wait(), LAST_FRAMES_S)

    async def _close(self, code: int, sender: asyncio.Task[None]) -> None:
        ending = self._tasks.ending
        self._send_limit.release()
        if ending is UNREAD:
            self._outbox.clear()
            self._refuse(InvalidMessage(UNREAD.why))
        self._tell_why()
        totals = Totals(
            self._channels.audio_ms,
            self._channels.num_finals,
            self._digest.hexdigest(),
            ended=self._channels.all_ended.is_set() and ending is not UNREAD,
        )
        farewell = self._dialect.farewell(code, totals)
        self._note_sizes()
        self._channels.close()
        self._send_frames(farewell.frames)
        self._outbox.close()
        patience_s = self._door.settings.idle_timeout_s if ending is None else LAST_FRAMES_S
        await self._sender.until_read(sender, self._max_stall_s or patience_s)
        await self._tasks.cancel(but=(SENDER,))
        reason = farewell.reason or ("" if ending is None else ending.why)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_FRAMES_S):
                await self._transport.close(farewell.close_code, reason)
