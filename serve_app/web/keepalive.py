"""uvicorn's WebSocket for connections on which audio comes: patient with pongs, and cheap for small frames.

uvicorn closes a connection whose pong does not come within 20 s. A client that reads nothing until it has
sent everything may not answer pings (a library that stops reading while 16 messages are unread cannot), and
while we hold a fast sender back, its pong waits behind its audio. What has come since the ping is as good as
a pong; a connection on which nothing comes is left to the idle limit of the door.

An AudioWorklet hands over 128 samples, and many a client sends them as they are: 375 frames a second, each of
them a wake-up, a read, and two changes of what the loop waits for. After small reads in quick succession the
next read waits for the rest of `GATHER_S`, and the kernel gathers what comes meanwhile. Frames of audio pass
by the general parser (`frame_splitter`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.websockets import auto
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from serve_app.web.frame_splitter import FrameSplitter

GATHER_S: Final = 0.032
"""One hop of the voice detector: less audio than that makes no difference to any text."""

JOINED_UNIT_BYTES: Final = 64
"""Frames of so many bytes, or a multiple, hold whole samples of 1, 2, 4 or 8 channels in every encoding."""

MAX_UNREAD_BYTES: Final = 256 * 1024
"""Of ours, above which a ping is not answered: pongs to a client that does not read would pile up."""

MAX_SMALL_BYTES: Final = 8 * 1024
"""What is read at once of a client in real time; one that sends more is ahead of time, and never held up."""

_END_OF_HANDSHAKE: Final = b"\r\n\r\n"


class PatientWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol; bytes from the peer, or our own refusal to read any, stand in for a pong, and small
    frames are read several at a time."""

    max_joined_bytes = MAX_SMALL_BYTES

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received_at = 0.0
        self._read_from = 0.0
        self._reading_later: asyncio.TimerHandle | None = None
        self._splitter = FrameSplitter()
        self._is_between_frames = True
        """The parser has read the handshake, and nothing of a frame behind it."""

    def data_received(self, data: bytes) -> None:
        now = self.loop.time()
        in_quick_succession = now - self._received_at < 2 * GATHER_S
        self._received_at = now
        self._read_from = now + GATHER_S if in_quick_succession and len(data) <= MAX_SMALL_BYTES else now
        if self.conn.state is State.OPEN and self._is_between_frames:
            self._take_frames(data)
            return
        if self.conn.state is State.CONNECTING:
            self._is_between_frames = data.endswith(_END_OF_HANDSHAKE)
        super().data_received(self._splitter.take_rest() + data)

    def _take_frames(self, data: bytes) -> None:
        """Small frames of one length that were read together become one message."""
        audio: list[bytes] = []
        for payload, rest in self._splitter.push(data):
            if payload is not None:
                if audio and not self._joins(audio, payload):
                    self._take_audio(audio)
                    audio = []
                audio.append(payload)
                continue
            if audio:
                self._take_audio(audio)
                audio = []
            super().data_received(rest)
            if self.conn.state is not State.OPEN:
                return  # nothing behind a close counts
        if audio:
            self._take_audio(audio)

    def _joins(self, audio: list[bytes], payload: bytes) -> bool:
        size = len(payload)
        fits = (len(audio) + 1) * size <= self.max_joined_bytes
        return fits and size == len(audio[0]) and size > 0 and size % JOINED_UNIT_BYTES == 0

    def _take_audio(self, frames: list[bytes]) -> None:
        self.curr_msg_data_type, self.frames = "bytes", frames
        self.send_receive_event_to_app()

    async def receive(self) -> Any:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self._read_on()
        return message

    def _read_on(self) -> None:
        """Read again, now or when it is time; uvicorn pauses with every message."""
        wait_s = self._read_from - self.loop.time()
        if wait_s <= 0:
            self.read_paused = False
            self.transport.resume_reading()
        elif self._reading_later is None:
            self._reading_later = self.loop.call_later(wait_s, self._waited)

    def _waited(self) -> None:
        self._reading_later = None
        if self.read_paused and self.queue.empty() and not self.transport.is_closing():
            self._read_on()

    def handle_ping(self) -> None:
        """RFC 6455, section 5.5.3: of several pings only the newest has to be answered."""
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.conn.data_to_send()
        else:
            super().handle_ping()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reading_later is not None:
            self._reading_later.cancel()
        super().connection_lost(exc)

    def keepalive_timeout(self) -> None:
        if not self.read_paused and self._received_at < self.ping_sent_at:
            super().keepalive_timeout()
            return
        self.pong_timer = None
        self.pending_ping_payload = None
        self.schedule_ping()


def let_audio_be_a_sign_of_life(max_frame_bytes: int = MAX_SMALL_BYTES) -> None:
    """Use `PatientWebSocket` in every server of this process that has not been configured yet; frames that it
    joins are no more than `max_frame_bytes` together."""
    PatientWebSocket.max_joined_bytes = min(MAX_SMALL_BYTES, max_frame_bytes)
    auto.AutoWebSocketsProtocol = PatientWebSocket
