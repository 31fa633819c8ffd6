"""`/ws/stream`: a browser's ogg/opus or webm/opus recording in, the native protocol's events out.

    client                                            server
    (options in the address)                      <-  session_started
    binary frames: the container, cut anywhere    ->
                                                  <-  vad_event, partial_transcript, final_transcript, error
                                                  <-  ping, every so many seconds
    flush | end_session | cancel | pong           ->
                                                  <-  session_ended

An empty binary frame says nothing: Safari's recorder sends some. `sample_rate` or `encoding` in the address
announce raw samples instead of a container. `resume` is the ticket of the last final: the new connection
sends its container's header again, and audio from the offset that `session_started` names, counted in decoded
samples. `only_new_words`: see `native_dialect`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serve_app.core.errors import InvalidMessage
from serve_app.protocols.choices import Parameters, choices_from_query, convert_parameters
from serve_app.protocols.dialect import (
    Audio,
    AudioInput,
    Cancel,
    Command,
    ContainerAudio,
    End,
    Flush,
    Frame,
    KeepAlive,
    Load,
    Open,
    RawAudio,
    Reply,
)
from serve_app.protocols.native.dialect import NativeDialect, OnlyNewWords
from serve_app.session.ticket import MAX_TICKET_CHARS
from sotto_client import wire

MAX_CONTROL_CHARS = 4 * 1024
PING, PONG = (msgspec.json.encode(message).decode() for message in (wire.Ping(), wire.Pong()))


class OpusStreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the address says beside the choices of a session."""

    only_new_words: OnlyNewWords = False
    resume: (
        Annotated[
            str,
            Meta(
                max_length=MAX_TICKET_CHARS,
                description="Ticket of a session to go on with; empty: a new one that can be.",
            ),
        ]
        | None
    ) = None


class Control(msgspec.Struct, frozen=True):
    type: Literal["flush", "end_session", "cancel", "ping", "pong"]


_CONTROLS: dict[str, Command] = {
    "flush": Flush(),
    "end_session": End(),
    "cancel": Cancel(),
    "ping": Reply((PONG,)),
    "pong": KeepAlive(),
}
_decoder = msgspec.json.Decoder(Control)


class OpusStreamDialect(NativeDialect):
    """One connection; a ping goes out every `ping_s`, also between messages."""

    def __init__(self, parameters: Parameters = (), *, ping_s: float = 10.0) -> None:
        super().__init__(parameters)
        self.status_s = ping_s

    def open_at_once(self) -> Sequence[Command]:
        session_id, choices = choices_from_query(self._parameters)
        options = convert_parameters(self._parameters, OpusStreamOptions)
        audio: AudioInput = ContainerAudio()
        if choices.encoding is not None or choices.sample_rate is not None:
            audio = RawAudio(choices.pcm_encoding, choices.sample_rate_hz, choices.num_channels)
        self._session_id = session_id
        self._only_new_words = options.only_new_words
        return (Open(choices, audio, session_id, options.resume),)

    def receive(self, frame: Frame) -> Sequence[Command]:
        if isinstance(frame, bytes):
            return (Audio(frame),) if frame else ()
        if len(frame) > MAX_CONTROL_CHARS:
            raise InvalidMessage(
                f"control message of {len(frame)} characters, the limit is {MAX_CONTROL_CHARS}"
            )
        try:
            return (_CONTROLS[_decoder.decode(frame).type],)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise InvalidMessage(f"expected a message of type {', '.join(_CONTROLS)}") from None

    def status(self, load: Load) -> Sequence[Frame]:
        return (PING,)
