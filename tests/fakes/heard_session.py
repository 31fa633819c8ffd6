"""A whole session with real models and no service around it: audio in, events out, nothing waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serve_app.core.events import Event, Final, Partial
from serve_app.core.jobs import (
    DecodeJob,
    DecodeResult,
    Transcript,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.session.effects import DecodeRequest, Effect
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.vad.detector import VoiceDetector

CHUNK_SAMPLES = SAMPLE_RATE_HZ // 2
Decode = Callable[[DecodeJob], DecodeResult]


@dataclass
class HeardSession:
    """Every request is answered at once, by `decode`; interims are asked for after every half second."""

    options: SessionOptions
    decode: Decode
    detector: VoiceDetector
    events: list[Event] = field(default_factory=list)

    def hear(self, audio: Pcm16) -> list[Event]:
        """The events of a session of this int16 `(num_samples,)` audio, 16 kHz."""
        session = Session(self.options)
        for start in range(0, len(audio), CHUNK_SAMPLES):
            session.push(audio[start : start + CHUNK_SAMPLES])
            self._listen(session)
            request = session.interim_request(8 * SAMPLE_RATE_HZ) if self.options.partials else None
            if request is not None:
                self._apply(session, [request])
        session.end()
        self._listen(session)
        assert session.ended
        return self.events

    def _listen(self, session: Session) -> None:
        while True:
            effects, request = session.poll_voice()
            self._apply(session, effects)
            if request is None:
                return
            self._apply(session, session.on_voice(self.detector.detect([request])[0]))

    def _apply(self, session: Session, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, DecodeRequest):
                result = self.decode(effect.job)
                assert isinstance(result, Transcript), result
                self._apply(session, session.on_decoded(effect.key, result, 1.0))
            else:
                self.events.append(effect)

    @property
    def finals(self) -> list[Final]:
        return [event for event in self.events if isinstance(event, Final)]

    @property
    def partials(self) -> list[Partial]:
        return [event for event in self.events if isinstance(event, Partial)]
