"""A recording through a live session as it runs in the service: real voice detection, real windows.

Text is not decoded: the words of the reference are said where they were spoken, since what is measured is who
is said to have spoken them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.clips import Clip
from benchmarks.speakers.live import AnalysedWindow
from benchmarks.speakers.scoring import TimedWord, reference_words
from serve_app.core.events import Final, SpeakerRevision
from serve_app.core.jobs import Transcript, Word
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.session.effects import DecodeRequest, Effect
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.speakers.ports import Analyser
from serve_app.speakers.turns import SpeakerMode
from serve_app.vad.detector import VoiceDetector

CHUNK_SAMPLES = SAMPLE_RATE_HZ // 10


@dataclass(frozen=True, slots=True)
class LiveRun:
    """The windows that the session asked for, and the speaker of every word that it said: at first, and in
    the end. `words` are the reference's that came out, in their order."""

    windows: tuple[AnalysedWindow, ...]
    words: tuple[TimedWord, ...]
    first: tuple[int | None, ...]
    revised: tuple[int | None, ...]


def run_session(recording: Clip, analyser: Analyser, detector: VoiceDetector, step_s: float) -> LiveRun:
    """The whole recording, every answer at once."""
    options = SessionOptions(recording.name, language="en", partials=False, speakers=SpeakerMode.VOICE)
    return _Run(recording, analyser, detector, step_s, Session(options)).run()


class _Run:
    def __init__(
        self,
        recording: Clip,
        analyser: Analyser,
        detector: VoiceDetector,
        step_s: float,
        session: Session,
    ) -> None:
        self._recording = recording
        self._analyser = analyser
        self._detector = detector
        self._step_samples = round(step_s * SAMPLE_RATE_HZ)
        self._session = session
        self._reference = reference_words(recording)
        self._windows: list[AnalysedWindow] = []
        self._places: dict[str, list[int]] = {}
        self._first: dict[int, int | None] = {}
        self._revised: dict[int, int | None] = {}

    def run(self) -> LiveRun:
        samples = self._recording.samples
        for start in range(0, len(samples), CHUNK_SAMPLES):
            self._session.push(samples[start : start + CHUNK_SAMPLES])
            self._turn()
        self._session.end()
        while not self._session.ended:
            self._turn()
        said = sorted(self._first)
        return LiveRun(
            tuple(self._windows),
            tuple(self._reference[place] for place in said),
            tuple(self._first[place] for place in said),
            tuple(self._revised[place] for place in said),
        )

    def _turn(self) -> None:
        while True:
            effects, asked = self._session.poll_voice()
            self._apply(effects)
            if asked is None:
                break
            self._apply(self._session.on_voice(self._detector.detect([asked])[0]))
        speakers = self._session.speakers
        if speakers is None or self._session.ended:
            return
        request = speakers.request(self._step_samples)
        if request is not None:
            started = time.process_time()
            (voices,) = self._analyser.analyse([request.window])
            spent_s = time.process_time() - started
            start_s, end_s = request.start_sample / SAMPLE_RATE_HZ, request.end_sample / SAMPLE_RATE_HZ
            self._windows.append(AnalysedWindow(start_s, end_s, voices, spent_s))
            self._apply(speakers.on_voices(voices))

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, DecodeRequest):
                self._apply(self._session.on_decoded(effect.key, self._said(effect), 0.0))
            elif isinstance(effect, Final):
                places = [self._place(word) for word in effect.words]
                self._places[effect.utterance_id] = places
                self._note(places, [word.speaker for word in effect.words])
            elif isinstance(effect, SpeakerRevision):
                self._note(self._places[effect.utterance_id], effect.word_speakers)

    def _note(self, places: Sequence[int], speakers: Sequence[int | None]) -> None:
        for place, speaker in zip(places, speakers, strict=True):
            if self._first.get(place) is None:
                self._first[place] = speaker
            self._revised[place] = speaker

    def _said(self, request: DecodeRequest) -> Transcript:
        """The words whose middle is in the stretch; each is its place in the reference."""
        start_s, end_s = request.start_sample / SAMPLE_RATE_HZ, request.end_sample / SAMPLE_RATE_HZ
        words = tuple(
            Word(f" {place}", word.start_s - start_s, word.end_s - start_s, 1.0)
            for place, word in enumerate(self._reference)
            if start_s <= (word.start_s + word.end_s) / 2 < end_s
        )
        return Transcript(
            job_id=request.key,
            text="".join(word.word for word in words).strip(),
            language="en",
            language_probability=1.0,
            avg_logprob=-0.1,
            no_speech_prob=0.0,
            model="reference",
            words=words,
        )

    @staticmethod
    def _place(word: Word) -> int:
        return int(word.word)
