"""What is said when: the moments at which a session's voice detection says something, as a plan of speech.

The plans come from real recordings through the real detector and endpointer, so that pauses, cuts and the
lengths of utterances are those of the live benchmark. Times in seconds of a session's audio.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.session.voice import Cut, VoiceTrack
from serve_app.vad.detector import VadRequest, VoiceDetector
from serve_app.vad.endpointer import Opened, Paused, Resumed
from serve_app.vad.options import EndpointingOptions

STEP_SAMPLES = 160
"""How finely the moment of a decision is found: 10 ms."""


class Moment(IntEnum):
    OPENED = 0
    PAUSED = 1
    RESUMED = 2
    CLOSED = 3


@dataclass(frozen=True, slots=True)
class VoiceMoment:
    """Voice detection can say this once it has heard the audio up to `at_s`.

    `start_s` is where the utterance's audio begins. `end_s`: for `OPENED` the onset, for `PAUSED` and
    `CLOSED` the end of the utterance's audio if nothing more is said.
    """

    at_s: float
    kind: Moment
    start_s: float
    end_s: float

    def later(self, by_s: float) -> VoiceMoment:
        """The same in audio that begins this much later."""
        return replace(self, at_s=self.at_s + by_s, start_s=self.start_s + by_s, end_s=self.end_s + by_s)


@dataclass(frozen=True, slots=True)
class Talk:
    """One session's speech."""

    moments: tuple[VoiceMoment, ...]
    duration_s: float


def listen(recordings: Sequence[Pcm16], detector: VoiceDetector) -> list[Talk]:
    """Hear every recording with the service's own voice track, all of them side by side."""
    tracks = [VoiceTrack(EndpointingOptions(), 0, None) for _ in recordings]
    found: list[list[VoiceMoment]] = [[] for _ in recordings]
    starts = [0.0] * len(recordings)
    for begin in range(0, max(map(len, recordings), default=0), STEP_SAMPLES):
        for track, samples in zip(tracks, recordings, strict=True):
            if begin < len(samples):
                track.push(samples[begin : begin + STEP_SAMPLES])
        asked = list(range(len(tracks)))
        while asked:
            asked = _hear(tracks, asked, detector, found, starts)
    return [
        Talk(tuple(moments), len(samples) / SAMPLE_RATE_HZ)
        for moments, samples in zip(found, recordings, strict=True)
    ]


def _hear(
    tracks: Sequence[VoiceTrack],
    asked: Sequence[int],
    detector: VoiceDetector,
    found: list[list[VoiceMoment]],
    starts: list[float],
) -> list[int]:
    """One round of voice detection for these tracks; the ones that had something to hear."""
    requests: list[tuple[int, VadRequest]] = []
    for index in asked:
        _, request = tracks[index].poll()
        if request is not None:
            requests.append((index, request))
    if not requests:
        return []
    for (index, _), result in zip(requests, detector.detect([r for _, r in requests]), strict=True):
        track = tracks[index]
        at_s = track.received_samples / SAMPLE_RATE_HZ
        for signal in track.on_result(result):
            if isinstance(signal, Opened):
                starts[index] = signal.start_sample / SAMPLE_RATE_HZ
                moment = VoiceMoment(at_s, Moment.OPENED, starts[index], signal.onset_sample / SAMPLE_RATE_HZ)
            elif isinstance(signal, Paused):
                moment = VoiceMoment(at_s, Moment.PAUSED, starts[index], signal.end_sample / SAMPLE_RATE_HZ)
            elif isinstance(signal, Resumed):
                moment = VoiceMoment(at_s, Moment.RESUMED, starts[index], at_s)
            elif isinstance(signal, Cut):
                closed = signal.closed
                starts[index] = closed.start_sample / SAMPLE_RATE_HZ
                moment = VoiceMoment(at_s, Moment.CLOSED, starts[index], closed.end_sample / SAMPLE_RATE_HZ)
                if closed.cut:  # the next utterance is open from where this one was cut
                    found[index].append(moment)
                    starts[index] = closed.resume_sample / SAMPLE_RATE_HZ
                    moment = VoiceMoment(at_s, Moment.OPENED, starts[index], starts[index])
            else:
                continue
            found[index].append(moment)
    return [index for index, _ in requests]


def utterances(talks: Sequence[Talk]) -> list[tuple[VoiceMoment, ...]]:
    """Every utterance by itself: its moments, counted from the end of the one before it."""
    pieces = []
    for talk in talks:
        before_s, current = 0.0, []
        for moment in talk.moments:
            current.append(moment.later(-before_s))
            if moment.kind is Moment.CLOSED:
                pieces.append(tuple(current))
                before_s, current = moment.at_s, []
    return pieces


def shuffled(pieces: Sequence[tuple[VoiceMoment, ...]], duration_s: float, dice: random.Random) -> Talk:
    """A made-up session: real utterances with the pauses before them, in any order."""
    moments: list[VoiceMoment] = []
    at_s = 0.0
    while True:
        piece = pieces[dice.randrange(len(pieces))]
        if at_s + piece[-1].at_s > duration_s:
            return Talk(tuple(moments), duration_s)
        moments += [moment.later(at_s) for moment in piece]
        at_s += piece[-1].at_s
