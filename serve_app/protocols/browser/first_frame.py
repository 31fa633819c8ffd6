"""`/ws`, where two protocols live: a text frame first is `interim_final`, audio first `whisper_live_kit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from serve_app.core.errors import SottoError
from serve_app.core.events import Event
from serve_app.protocols.browser.interim_final import InterimFinalDialect
from serve_app.protocols.browser.whisper_live_kit import WhisperLiveKitDialect
from serve_app.protocols.choices import Parameters, convert_parameters
from serve_app.protocols.dialect import Command, Dialect, EndUnlessMore, Farewell, Frame, Load, Totals

ProtocolName: TypeAlias = Literal["auto", "interim_final", "whisperlivekit"]


class ProtocolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What the address of `/ws` says of its protocol."""

    protocol: Annotated[
        ProtocolName | None,
        Meta(description="What this socket speaks, where the first frame shall not decide."),
    ] = None


class FirstFrameDialect(Dialect):
    """One connection to `/ws`.

    `?protocol=` or, where the address says nothing, `protocol` settles it before any frame: clients of
    `interim_final` that send audio without `start` need that.
    """

    def __init__(self, parameters: Parameters = (), *, protocol: ProtocolName = "auto") -> None:
        self._parameters = tuple(parameters)
        self._interim_final = InterimFinalDialect(self._parameters)
        self._whisper_live_kit = WhisperLiveKitDialect(self._parameters, typed=True)
        self._chosen: Dialect | None = None
        self._choose(protocol)

    @property
    def _dialect(self) -> Dialect:
        return self._chosen or self._interim_final

    def _choose(self, protocol: ProtocolName) -> None:
        known: dict[str, Dialect] = {
            "interim_final": self._interim_final,
            "whisperlivekit": self._whisper_live_kit,
        }
        self._chosen = known.get(protocol)
        self.status_s = None if self._chosen is None else self._chosen.status_s

    def open_at_once(self) -> Sequence[Command]:
        """Only looks at the address, which must make sense to both."""
        named = convert_parameters(self._parameters, ProtocolChoice).protocol
        if named is not None:
            self._choose(named)
        return self._whisper_live_kit.open_at_once()

    def receive(self, frame: Frame) -> Sequence[Command]:
        if self._chosen is None and not frame and isinstance(frame, bytes):
            return (EndUnlessMore(),)  # a recorder's empty first frame tells nothing
        if self._chosen is None:
            self._choose("interim_final" if isinstance(frame, str) else "whisperlivekit")
        return self._dialect.receive(frame)

    def finishes_when_idle(self) -> bool:
        return self._dialect.finishes_when_idle()

    def names_speakers(self) -> None:
        self._dialect.names_speakers()

    def opened(self, session_id: str) -> None:
        self._dialect.opened(session_id)

    def anchored(self, unix_s: float) -> None:
        self._dialect.anchored(unix_s)

    def send(self, event: Event, channel: int = 0) -> Sequence[Frame]:
        return self._dialect.send(event, channel)

    def refuse(self, error: SottoError) -> Sequence[Frame]:
        return self._dialect.refuse(error)

    def status(self, load: Load) -> Sequence[Frame]:
        return self._dialect.status(load)

    def farewell(self, close_code: int, totals: Totals) -> Farewell:
        return self._dialect.farewell(close_code, totals)
