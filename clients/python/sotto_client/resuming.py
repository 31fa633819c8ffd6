"""A live session that outlives its connections: lost ones are made again, and no word is lost or said twice.

Every final comes with a ticket, and so does what is learned later of its speakers. The client keeps the audio
behind the newest ticket; when the connection is lost it makes another, to whichever replica answers, presents
the ticket, and sends that audio again. What it holds is what the session goes on from, so a final that was
received is never sent again, and one that was not received comes.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from types import TracebackType

from sotto_client.addresses import DEFAULT_URL
from sotto_client.audio import PCM_ENCODINGS, SAMPLE_BYTES, SAMPLE_RATE_HZ, Pcm16
from sotto_client.continued import continued
from sotto_client.errors import (
    ConnectionLost,
    GaveUp,
    RequestFailed,
    ServerUnreachable,
    SessionFailed,
    SottoClientError,
)
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import (
    FinalTranscript,
    Message,
    SessionEnded,
    SessionStarted,
    SpeakerRevision,
    Ticket,
)
from sotto_client.outbox import Mark, Outbox
from sotto_client.timeouts import timeout

PING_INTERVAL_S, PING_TIMEOUT_S = 5.0, 10.0
"""A server that fell silent is left after some 15 s: what was sent meanwhile is sent again."""
MIN_BUFFER_S = 60.0
"""An utterance may last 30 s and wait for its text: with less, a session could wait for itself."""
MAX_REPEATED = 64
"""Finals that a resumed session may say once more, where its ticket is older than they are."""
TOO_MANY_REQUESTS = 429


class ResumingClient:
    """One live session over as many connections as it takes.

        async with ResumingClient("http://127.0.0.1:8000", SessionConfig(lang_code="en")) as client:
            sender = asyncio.create_task(send(client))     # send_audio ..., end
            async for message in client:
                ...

    Sending and reading run in different tasks: nothing is sent before the iteration begins, and `send_audio`
    waits while more than `max_buffer_s` of audio is not acknowledged. Iteration yields a `SessionStarted` for
    every connection, every final once, and ends after `SessionEnded`; partials and `VadEvent`s of an
    utterance in progress may come again after a new `SessionStarted`. Where a server no longer takes the
    ticket, the rest becomes a session of its own (`resumed` False), whose times and counts go on and whose
    segment ids get a suffix.

    `give_up_after_s`: how long it may take, from the first loss on, until a new ticket shows that things go
    on; then iteration raises `GaveUp`. Pauses between attempts double from `first_pause_s` up to
    `max_pause_s`, by a random half shorter, so that the clients of a dead server do not all come at once.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        config: SessionConfig | None = None,
        *,
        session_id: str | None = None,
        api_key: str | None = None,
        give_up_after_s: float = 120.0,
        max_buffer_s: float = 120.0,
        first_pause_s: float = 0.1,
        max_pause_s: float = 5.0,
        open_timeout_s: float = 10.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if max_buffer_s < MIN_BUFFER_S:
            raise ValueError(f"max_buffer_s is {max_buffer_s}: at least {MIN_BUFFER_S} are needed")
        self._config = config or SessionConfig()
        encoding = PCM_ENCODINGS.get(self._config.encoding or "pcm16", "pcm16")
        rate_hz = self._config.sample_rate or SAMPLE_RATE_HZ
        frame_bytes = SAMPLE_BYTES[encoding] * (self._config.channels or 1)
        self._outbox = Outbox(sample_bytes=frame_bytes, rate_hz=rate_hz)
        self._url, self._api_key, self._session_id = url, api_key, session_id
        self._give_up_after_s = give_up_after_s
        self._max_buffer_s = max_buffer_s
        self._first_pause_s, self._max_pause_s = first_pause_s, max_pause_s
        self._open_timeout_s = open_timeout_s
        self._chance = chance
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._client: LiveClient | None = None
        self._started: SessionStarted | None = None
        self._ticket = ""
        self._num_sessions = 1
        self._num_finals = self._num_finals_before = 0
        self._num_attempts = 0
        self._newest_finals: deque[tuple[str, float]] = deque(maxlen=MAX_REPEATED)
        self._failing_since_s: float | None = None
        self._cancelled = self._over = False

    async def __aenter__(self) -> ResumingClient:
        """Connect; this once without another try. Raises `ServerUnreachable`, `RequestFailed`,
        `SessionFailed`."""
        await self._open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finish()
        if self._client is not None:
            await self._client.close()

    # -- what the caller says --------------------------------------------------------------------

    async def send_audio(self, audio: bytes | Pcm16) -> None:
        """Take samples in the encoding of the config; waits while too much is not acknowledged.

        Raises `ConnectionLost` once the session is over, `ValueError` on half a sample.
        """
        while not self._over and self._outbox.held_s > self._max_buffer_s:
            self._room.clear()
            await self._room.wait()
        if self._over:
            raise ConnectionLost(None, "the session is over")
        self._outbox.put(audio if isinstance(audio, bytes) else audio.astype("<i2", copy=False).tobytes())
        self._more.set()

    async def flush(self) -> None:
        """Ask for a final of the utterance in progress."""
        self._mark(Mark.FLUSH)

    async def end(self) -> None:
        """No more audio comes; the server finishes everything and answers `SessionEnded`."""
        self._mark(Mark.END)

    async def cancel(self) -> None:
        """Drop what is not decoded and end."""
        self._cancelled = True
        self._mark(Mark.CANCEL)

    def _mark(self, mark: Mark) -> None:
        self._outbox.mark(mark)
        self._more.set()

    # -- what the server says --------------------------------------------------------------------

    async def __aiter__(self) -> AsyncGenerator[Message, None]:
        try:
            while True:
                assert self._started is not None
                yield self._started
                async with aclosing(self._one_connection()) as messages:
                    async for message in messages:
                        yield message
                        if isinstance(message, SessionEnded):
                            return
                await self._reconnect()
        finally:
            self._finish()

    async def _one_connection(self) -> AsyncGenerator[Message, None]:
        """Messages until the connection is lost. Raises `ConnectionLost` where there is no way back."""
        client = self._client
        assert client is not None
        sender = asyncio.create_task(self._send(client))
        try:
            while True:
                message = self._take(await client.receive())
                if message is not None:
                    yield message
        except ConnectionLost:
            if not self._ticket or self._cancelled:
                raise
            await client.close()
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, client: LiveClient) -> None:
        with suppress(ConnectionLost):
            while True:
                match self._outbox.next():
                    case None:
                        self._more.clear()
                        await self._more.wait()
                    case Mark.FLUSH:
                        await client.flush()
                    case Mark.END:
                        await client.end()
                    case Mark.CANCEL:
                        await client.cancel()
                    case bytes() as audio:
                        await client.send_audio(audio)
                if not self._ticket:
                    self._outbox.forget_sent()
                    self._room.set()

    def _take(self, message: Message) -> Message | None:
        """Note what was acknowledged; None for what the caller has seen already or need not see."""
        if isinstance(message, FinalTranscript | SpeakerRevision | Ticket) and message.ticket:
            self._acknowledged(message.ticket, message.resume_from_samples or 0)
        if isinstance(message, Ticket):
            return None
        if isinstance(message, FinalTranscript):
            said = (message.segment_id, message.end_ms)
            if message.ticket and said in self._newest_finals:
                return None
            self._newest_finals.append(said)
            self._num_finals += bool(message.text)
        if self._num_sessions == 1:
            return message
        return continued(message, self._num_sessions, self._outbox.origin_ms, self._num_finals_before)

    def _acknowledged(self, ticket: str, sample: int) -> None:
        """A ticket that goes on where no audio is kept any more is of no use."""
        if self._outbox.forget(sample):
            self._ticket = ticket
            self._failing_since_s, self._num_attempts = None, 0
            self._room.set()

    # -- connections -----------------------------------------------------------------------------

    async def _reconnect(self) -> None:
        """Raises `GaveUp`, and what no other attempt can help against."""
        now_s = asyncio.get_running_loop().time
        if self._failing_since_s is None:
            self._failing_since_s = now_s()
        last: SottoClientError | None = None
        while True:
            pause_s = min(self._max_pause_s, self._first_pause_s * 2 ** min(self._num_attempts, 20))
            self._num_attempts += 1
            if now_s() + pause_s > self._failing_since_s + self._give_up_after_s:
                raise GaveUp(self._give_up_after_s, last)
            await asyncio.sleep(pause_s * (0.5 + self._chance() / 2))
            try:
                return await self._open()
            except (ServerUnreachable, ConnectionLost) as error:
                last = error
            except RequestFailed as error:
                if error.status < 500 and error.status != TOO_MANY_REQUESTS:
                    raise
                last = error
            except SessionFailed as error:
                if not error.retryable:
                    raise
                last = error

    async def _open(self) -> None:
        """Connect, and start or resume the session."""
        client = LiveClient(
            self._url,
            api_key=self._api_key,
            open_timeout_s=self._open_timeout_s,
            ping_interval_s=PING_INTERVAL_S,
            ping_timeout_s=PING_TIMEOUT_S,
        )
        await client.connect()
        try:
            async with timeout(self._open_timeout_s):
                self._started = await self._start(client)
        except asyncio.TimeoutError:
            await client.close()
            raise ConnectionLost(None, "no answer to start_session") from None
        except BaseException:
            await client.close()
            raise
        self._client = client
        self._ticket = self._started.ticket or ""
        self._outbox.forget(self._started.resume_from_samples or 0)
        self._outbox.rewind()
        self._more.set()

    async def _start(self, client: LiveClient) -> SessionStarted:
        try:
            session_id = None if self._ticket else self._session_id
            return await client.start(self._config, session_id=session_id, resume=self._ticket)
        except SessionFailed as error:
            if error.code != "INVALID_TICKET":
                raise
        started = await client.start(self._config, resume="")
        self._outbox.begin_anew()
        self._newest_finals.clear()
        self._num_sessions += 1
        self._num_finals_before = self._num_finals
        return started

    def _finish(self) -> None:
        self._over = True
        self._room.set()
