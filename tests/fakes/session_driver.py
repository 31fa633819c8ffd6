"""Plays the conductor to a session: voice detection at once, decodes answered in any order."""

from __future__ import annotations

import random
from collections.abc import Callable

from fakes.talk import FakeDetector, decode
from fakes.voices import analyse
from serve_app.core.events import Event, Final
from serve_app.core.jobs import DecodeFailure, DecodeResult
from serve_app.core.samples import Pcm16
from serve_app.session.checkpoint import Checkpoint
from serve_app.session.effects import DecodeRequest, Effect
from serve_app.session.session import Session
from serve_app.session.speakers import SpeakerRequest

STEP_SAMPLES = 2 * 16_000


class Driver:
    """Runs a session to its end, answering in the order that `rng` chooses."""

    def __init__(
        self,
        session: Session,
        rng: random.Random | None = None,
        decode: Callable[[DecodeRequest], DecodeResult] = decode,
    ) -> None:
        self.session = session
        self.rng = rng
        self.decode = decode
        self.events: list[Event] = []
        self.checkpoints: list[Checkpoint] = []
        self.waiting: list[DecodeRequest] = []
        self.requests: list[DecodeRequest] = []
        self.detector = FakeDetector()
        self.origin = session.received_samples
        self.listening: SpeakerRequest | None = None
        self.num_failing_windows = 0
        self.listens = True

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, DecodeRequest):
                self.requests.append(effect)
                self.waiting.append(effect)
            else:
                self.events.append(effect)
                if isinstance(effect, Final):
                    self.checkpoints.append(self.session.checkpoint)

    def turn(self, *, speculate: bool = True, answer_all: bool = False) -> None:
        while True:
            effects, request = self.session.poll_voice()
            self.apply(effects)
            if request is None:
                break
            self.apply(self.session.on_voice(self.detector.detect([request])[0]))
        for offered in (
            self.session.speculative_request() if speculate else None,
            self.session.interim_request(8 * 16000),
        ):
            if offered is not None:
                self.requests.append(offered)
                self.waiting.append(offered)
        speakers = None if self.session.ended else self.session.speakers
        if speakers is not None and self.listening is None and self.listens:
            self.listening = speakers.request(STEP_SAMPLES)
        if (
            speakers is not None
            and self.listening is not None
            and (answer_all or self.rng is None or self.rng.random() < 0.3)
        ):
            request, self.listening = self.listening, None
            if self.num_failing_windows:
                self.num_failing_windows -= 1
                self.apply(speakers.on_failed())
            else:
                self.apply(speakers.on_voices(analyse([request.window])[0]))
        while self.waiting and (answer_all or self.rng is None or self.rng.random() < 0.5):
            index = self.rng.randrange(len(self.waiting)) if self.rng else 0
            request_ = self.waiting.pop(index)
            answer = self.decode(request_)
            if isinstance(answer, DecodeFailure):
                self.apply(self.session.on_decode_failed(request_.key, answer.message))
            else:
                self.apply(self.session.on_decoded(request_.key, answer, 5.0))

    def run(self, audio: Pcm16, chunks: list[int] | None = None, *, speculate: bool = True) -> list[Event]:
        position = self.session.received_samples - self.origin
        index = 0
        while position < len(audio):
            size = chunks[index % len(chunks)] if chunks else 1600
            self.session.push(audio[position : position + size])
            position += size
            index += 1
            self.turn(speculate=speculate)
        self.session.end()
        while not self.session.ended:
            self.turn(answer_all=True, speculate=speculate)
        return self.events
