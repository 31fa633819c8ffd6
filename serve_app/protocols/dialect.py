"""The interface between live wire protocols and the one shell that pumps them.

A dialect turns frames into commands and events into frames. It is a pure object per connection: it may
remember what it has sent (deltas, item ids), but it has no clock, no IO, and knows nothing of queues. The
shell opens sessions, pushes audio, applies back-pressure, and bounds what is unread.

    accepted()        once, after the socket was accepted: frames to greet with
    receive(frame)    a client's frame -> commands; raises `SottoError` for what it cannot understand
    send(event)       an event of a session -> frames
    refuse(error)     an error -> frames in this protocol's own shape
    farewell(code)    frames that go last, and the close code

The others have defaults, for what a protocol does not speak of.

What the shell sees to, so that no dialect has to: frames over the size limit, audio before `Open` and after
`End`, a second `Open`. An `Open` that is refused may be sent again where it came in a text frame.
`Flush` and `Reconfigure` without a session are ignored; `End` and `Cancel` without one close the connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from serve_app.audio.pcm import Encoding
from serve_app.core.errors import SottoError
from serve_app.core.events import Event
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.choices import SessionChoices

Frame: TypeAlias = str | bytes
"""One WebSocket message, text or binary; a piece of a request's body, or a line of its answer."""


@dataclass(frozen=True, slots=True)
class RawAudio:
    """Headerless audio, `channels` interleaved; `split_channels`: a session for each, else their mean.

    `whole_samples`: a frame that cuts a sample in half is refused, else its other half is waited for.
    """

    encoding: Encoding = "pcm16"
    sample_rate_hz: int = SAMPLE_RATE_HZ
    channels: int = 1
    split_channels: bool = False
    whole_samples: bool = False

    @property
    def sample_bytes(self) -> int:
        return {"pcm16": 2, "float32": 4}.get(self.encoding, 1)

    @property
    def frame_bytes(self) -> int:
        """A sample of every channel."""
        return self.sample_bytes * self.channels


@dataclass(frozen=True, slots=True)
class ContainerAudio:
    """webm, ogg, flac, wav, mp3, m4a as they come, sniffed from the first bytes. `or_raw`: bytes of none of
    these are taken as this raw audio. Channels are mixed."""

    or_raw: RawAudio | None = None
    split_channels: bool = False


AudioInput: TypeAlias = RawAudio | ContainerAudio


@dataclass(frozen=True, slots=True)
class Open:
    """Start the session; the first command of every dialect. `resume`: ticket of a session to go on with.

    `is_body`: the audio is the body of a request. Its channels are mixed, and the session ends with an error
    where it is damaged, ends within a sample, or is an empty container.
    """

    choices: SessionChoices = field(default_factory=SessionChoices)
    audio: AudioInput = RawAudio()
    session_id: str | None = None
    resume: str | None = None
    is_body: bool = False


@dataclass(frozen=True, slots=True)
class Audio:
    """Bytes of the audio that `Open` announced."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    """A final of what was said so far, now. `channel`: of one channel only, else of all."""

    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """Other choices from now on: what a running session can change (interval, language), else ignored."""

    choices: SessionChoices


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """The client is there though it sends no audio."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Frames to send back at once."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class End:
    """No more audio: finish everything, then say farewell."""


@dataclass(frozen=True, slots=True)
class EndUnlessMore:
    """The end where no other frame follows soon: some recorders begin with an empty frame, which is the end
    of the stream in some protocols."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop what is not decoded and end."""


Command: TypeAlias = Open | Audio | Flush | Reconfigure | KeepAlive | Reply | End | EndUnlessMore | Cancel


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the service is, for protocols that tell their clients. `level`: normal, high, critical;
    `rung`: what gives way (`capacity.ladder.Rung`, in lower case)."""

    level: str
    interval_ms: int
    window_s: float
    interims_paused: bool
    rung: str = "normal"


class Farewell(NamedTuple):
    """What goes last: frames, then a close with this code and reason."""

    frames: tuple[Frame, ...] = ()
    close_code: int = 1000
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a connection amounted to: for summaries that go last. `ended`: its client was or will be told
    `SessionEnded`."""

    audio_ms: float = 0.0
    num_finals: int = 0
    sha256: str = ""
    ended: bool = True
    details: dict[str, Any] = field(default_factory=dict)


class Dialect(ABC):
    """One connection's protocol; see the module's header. Methods raise nothing but what they say."""

    heartbeat_s: float | None = None
    """Send `heartbeat()` after so long without a frame of ours while a session is open; None: never."""
    status_s: float | None = None
    """Ask for `status(load)` this often while a session is open, and at its start; None: never."""

    def accepted(self) -> Sequence[Frame]:
        return ()

    def open_at_once(self) -> Sequence[Command]:
        """Commands right behind `accepted()`, where the address says everything. Raises `SottoError`: the
        shell refuses and closes."""
        return ()

    @abstractmethod
    def receive(self, frame: Frame) -> Sequence[Command]:
        """Raises `SottoError`: the shell answers with `refuse`. A `ClientError` leaves the connection open,
        unless its close code is 1009 or too many have come."""

    def names_speakers(self) -> None:
        """The session tells speakers apart; called right before `opened`, and only then."""
        return

    def opened(self, session_id: str) -> None:
        """The session was admitted under this id; before the next frame is received, and before any event."""
        return

    def anchored(self, unix_s: float) -> None:
        """The Unix time of the session's first sample; before any event that has a time."""
        return

    def finishes_when_idle(self) -> bool:
        """Whether a final comes by itself once no audio has come for a while, since clients do not say when
        they want one; asked when the session opens."""
        return False

    @abstractmethod
    def send(self, event: Event, channel: int = 0) -> Sequence[Frame]:
        """Frames of one event; `channel` counts from 0 where there is a session for each."""

    @abstractmethod
    def refuse(self, error: SottoError) -> Sequence[Frame]: ...

    def heartbeat(self, received_ms: float) -> Sequence[Frame]:
        return ()

    def status(self, load: Load) -> Sequence[Frame]:
        return ()

    def farewell(self, close_code: int, totals: Totals) -> Farewell:
        return Farewell((), close_code)
