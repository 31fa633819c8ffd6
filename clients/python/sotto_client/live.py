"""A live session over the native WebSocket protocol, `/ws/stt`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from types import TracebackType

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from sotto_client.addresses import DEFAULT_URL, authorization, is_loopback, websocket_url
from sotto_client.audio import Pcm16
from sotto_client.errors import ConnectionLost, RequestFailed, ServerUnreachable, SessionFailed
from sotto_client.messages import ErrorMessage, Message, SessionEnded, SessionStarted, parse_message

PATH = "/ws/stt"
USER_AGENT = "sotto-client"
"""Says that it reads while it sends: the server then tells it everything at once, however fast it sends."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The choices of one session under their wire names; what is None is left to the server."""

    lang_code: str | None = None
    sample_rate: int | None = None
    encoding: str | None = None
    vad_enabled: bool | None = None
    vad_threshold: float | None = None
    partial_results: bool | None = None
    word_timestamps: bool | None = None
    task: str | None = None
    prompt: str | None = None
    min_speech_ms: int | None = None
    min_silence_ms: int | None = None
    pre_roll_ms: int | None = None
    speech_pad_ms: int | None = None
    overlap_ms: int | None = None
    max_utterance_ms: int | None = None
    partial_interval_ms: int | None = None
    max_partial_window_ms: int | None = None
    hotwords: str | None = None
    carry_context: bool | None = None
    language_mode: str | None = None
    language_lock_s: float | None = None
    streaming_policy: str | None = None
    min_chunk_ms: int | None = None
    buffer_trimming: str | None = None
    buffer_trimming_s: float | None = None
    frame_threshold: int | None = None
    channels: int | None = None
    diarization: bool | None = None
    diarization_backend: str | None = None
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None

    def to_wire(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class LiveClient:
    """One live session.

        async with LiveClient("http://127.0.0.1:8000") as client:
            await client.start(SessionConfig(lang_code="en"))
            await client.send_audio(samples)
            await client.end()
            async for message in client:
                ...

    Reading and sending may run in different tasks. Iteration ends after `SessionEnded` and raises
    `ConnectionLost` where the connection ends before it.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        open_timeout_s: float = 20.0,
        ping_interval_s: float = 20.0,
        ping_timeout_s: float = 20.0,
    ) -> None:
        """`ping_interval_s` and `ping_timeout_s`: how soon a server that fell silent is noticed."""
        self._url = websocket_url(url, PATH)
        self._api_key = api_key
        self._open_timeout_s = open_timeout_s
        self._ping_interval_s, self._ping_timeout_s = ping_interval_s, ping_timeout_s
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> LiveClient:
        await self.connect()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Raises `ServerUnreachable`, or `RequestFailed` where the server refuses the handshake."""
        try:
            self._socket = await connect(
                self._url,
                additional_headers=authorization(self._api_key),
                compression=None,
                max_size=MAX_MESSAGE_BYTES,
                open_timeout=self._open_timeout_s,
                ping_interval=self._ping_interval_s,
                ping_timeout=self._ping_timeout_s,
                proxy=None if is_loopback(self._url) else True,
                user_agent_header=USER_AGENT,
            )
        except InvalidHandshake as error:
            response = getattr(error, "response", None)
            if response is None:
                raise ServerUnreachable(self._url, error) from error
            detail = (response.body or b"").decode("utf-8", "replace")[:300] or response.reason_phrase
            raise RequestFailed(response.status_code, detail) from error
        except (OSError, asyncio.TimeoutError, InvalidMessage) as error:
            raise ServerUnreachable(self._url, error) from error

    async def close(self) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def start(
        self,
        config: SessionConfig | None = None,
        *,
        session_id: str | None = None,
        resume: str | None = None,
    ) -> SessionStarted:
        """Open the session. Raises `SessionFailed` where the server refuses it.

        `resume`: a ticket: go on with its session, sending the audio from `resume_from_samples` of the answer
        on; empty: a new session whose `Ticket` messages are wanted. `ResumingClient` does all that by itself.
        """
        start: dict[str, object] = {"type": "start_session", "config": (config or SessionConfig()).to_wire()}
        if session_id is not None:
            start["session_id"] = session_id
        if resume is not None:
            start["resume"] = resume
        await self._send(json.dumps(start))
        message = await self.receive()
        if isinstance(message, ErrorMessage):
            raise SessionFailed(message.code, message.message, retryable=message.retryable)
        if not isinstance(message, SessionStarted):
            raise SessionFailed("INVALID_MESSAGE", f"expected session_started, got {type(message).__name__}")
        return message

    async def send_audio(self, audio: bytes | Pcm16) -> None:
        """Send little-endian samples; waits while the server is behind and the socket is full."""
        await self._send(audio if isinstance(audio, bytes) else audio.astype("<i2", copy=False).tobytes())

    async def flush(self) -> None:
        """Ask for a final of the utterance in progress."""
        await self._send('{"type":"flush"}')

    async def end(self) -> None:
        """No more audio comes; the server finishes everything and answers `SessionEnded`."""
        await self._send('{"type":"end_session"}')

    async def cancel(self) -> None:
        """Drop what is not decoded and end."""
        await self._send('{"type":"cancel"}')

    async def receive(self) -> Message:
        """The next message. Raises `ConnectionLost`."""
        try:
            return parse_message(json.loads(await self._connected().recv()))
        except ConnectionClosed as error:
            raise _lost(error) from error

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            message = await self.receive()
            yield message
            if isinstance(message, SessionEnded):
                return

    async def _send(self, frame: str | bytes) -> None:
        try:
            await self._connected().send(frame)
        except ConnectionClosed as error:
            raise _lost(error) from error

    def _connected(self) -> ClientConnection:
        if self._socket is None:
            raise RuntimeError("connect() first")
        return self._socket


def _lost(error: ConnectionClosed) -> ConnectionLost:
    received = error.rcvd
    return ConnectionLost(
        received.code if received else 1006, received.reason if received else "no close frame"
    )
