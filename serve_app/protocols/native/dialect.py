"""`/ws/stt` as a dialect: the native protocol's messages (`native`) on the generic live shell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from serve_app.core.errors import InvalidMessage, SottoError
from serve_app.core.events import (
    Event,
    Final,
    Partial,
    SpeakerRevision,
)
from serve_app.protocols.choices import Parameters, SessionChoices, convert_parameters
from serve_app.protocols.deltas import NewWords
from serve_app.protocols.dialect import (
    Audio,
    Cancel,
    Command,
    Dialect,
    End,
    Flush,
    Frame,
    Load,
    Open,
    RawAudio,
)
from serve_app.protocols.native import messages as native
from serve_app.protocols.speaker_runs import SentFinals
from sotto_client import wire

_encoder = msgspec.json.Encoder()


OnlyNewWords: TypeAlias = Annotated[bool, Meta(description="Interims carry only what is new and will stay.")]


class TextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How text is sent, as chosen in the address. `only_new_words`: see `deltas`."""

    only_new_words: OnlyNewWords = False


class NativeDialect(Dialect):
    """One connection to `/ws/stt`; `parameters` are those of its address."""

    status_s: float | None = 1.0

    def __init__(self, parameters: Parameters = ()) -> None:
        self._rung = "normal"
        self._parameters = tuple(parameters)
        self._session_id: str | None = None
        self._events: NativeEvents | None = None
        self._only_new_words = False
        self._speakers = False
        self._ended = False

    def names_speakers(self) -> None:
        self._speakers = True

    def opened(self, session_id: str) -> None:
        self._session_id = session_id
        self._events = NativeEvents(session_id, only_new_words=self._only_new_words, speakers=self._speakers)

    def receive(self, frame: Frame) -> Sequence[Command]:
        if isinstance(frame, bytes):
            return (self._audio(frame),)
        return (self._command(native.decode_command(frame)),)

    def _audio(self, data: bytes) -> Audio:
        if self._events is None:
            raise InvalidMessage("audio before start_session")
        if self._ended:
            raise InvalidMessage("audio after end_session")
        return Audio(data)

    def _command(self, command: native.Command) -> Command:
        if isinstance(command, native.StartSession):
            return self._start(command)
        if self._events is None:
            raise InvalidMessage("the first message must be start_session")
        match command:
            case native.Flush():
                return Flush()
            case native.EndSession():
                self._ended = True
                return End()
            case native.Cancel():
                self._ended = True
                return Cancel()

    def _start(self, command: native.StartSession) -> Open:
        if self._events is not None:
            raise InvalidMessage("the session has already started")
        self._only_new_words = convert_parameters(self._parameters, TextOptions).only_new_words
        choices = command.config or SessionChoices()
        self._session_id = command.session_id
        audio = RawAudio(
            choices.pcm_encoding, choices.sample_rate_hz, choices.num_channels, whole_samples=True
        )
        return Open(choices, audio, command.session_id, command.resume)

    def send(self, event: Event, channel: int = 0) -> Sequence[Frame]:
        return self._events.frames(event) if self._events is not None else ()

    def refuse(self, error: SottoError) -> Sequence[Frame]:
        return (native.encode_error(error, self._session_id).decode(),)

    def status(self, load: Load) -> Sequence[Frame]:
        """Where something else gives way than the client knows of."""
        if self._session_id is None or load.rung == self._rung:
            return ()
        self._rung = load.rung
        message = wire.LoadStatus(
            session_id=self._session_id,
            level=load.level,
            rung=load.rung,
            interims_paused=load.interims_paused,
        )
        return (_encoder.encode(message).decode(),)


class NativeEvents:
    """The native protocol's server messages for one session, whole or only what is new.

    With `only_new_words` a `partial_transcript` is sent when there are new stable words, and its `text` is
    only those; the final has them as `new_text` beside the whole `text`. `keep_chars` says behind which
    code point of what was sent of the segment they go. `speakers`: the session tells them apart.
    """

    def __init__(self, session_id: str, *, only_new_words: bool = False, speakers: bool = False) -> None:
        self._session_id = session_id
        self._new_words = NewWords() if only_new_words else None
        self._sent = SentFinals() if speakers else None

    def frames(self, event: Event) -> Sequence[Frame]:
        message = self.message(event)
        return () if message is None else (_encoder.encode(message).decode(),)

    def message(self, event: Event) -> wire.Event | None:
        """None where there is nothing new to say."""
        delta = None
        if self._new_words is not None:
            if isinstance(event, Partial):
                delta = self._new_words.partial(event)
                if delta is None:
                    return None
            elif isinstance(event, Final):
                delta = self._new_words.final(event)
        return native.event_message(
            event,
            self._session_id,
            speakers=self._sent is not None,
            revised=self._revised(event),
            delta=delta,
        )

    def _revised(self, event: Event) -> Final | None:
        """The final that a revision is about."""
        if self._sent is None:
            return None
        if isinstance(event, Final):
            self._sent.add(event)
        return self._sent.revise(event) if isinstance(event, SpeakerRevision) else None
