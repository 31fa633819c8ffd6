"""Voices for synthetic speech (`fakes.talk`): whose word it is follows from its number, a hundred to each.

The analyser hears them exactly, and numbers them anew in every window, as a model does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np

from fakes.talk import WORD_BASE
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.speakers.ports import SpeakerStatus, SpeakerWindow, WindowVoices
from serve_app.speakers.turns import Diarization, SpeakerCounts, Turn

FRAME_SAMPLES = 320
NUM_DIMENSIONS = 192
VOICES = np.linalg.qr(np.random.default_rng(7).normal(size=(NUM_DIMENSIONS, 32)))[0].T.astype(np.float32)
"""Embeddings of 32 people, as unlike as can be."""


def speaker_of(number: int) -> int:
    """Whose word it is: 1 to 99 are the first's, 100 to 199 the second's, ..."""
    return number // 100


def speaking(audio: Pcm16) -> np.ndarray:
    """For every frame of 20 ms who speaks in it, -1 for nobody."""
    frames = audio[: len(audio) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES).max(axis=1)
    numbers = (frames.astype(int) - WORD_BASE) // 10
    return np.where(frames >= WORD_BASE, numbers // 100, -1)


def analyse(windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
    answers = []
    for window in windows:
        who = speaking(window.audio)
        present = [int(speaker) for speaker in dict.fromkeys(who.tolist()) if speaker >= 0]
        activity = np.stack([who == speaker for speaker in present], axis=1) if present else who[:, None] > 99
        answers.append(
            WindowVoices(
                activity=activity.astype(np.uint8)[:, : len(present)],
                frame_s=FRAME_SAMPLES / SAMPLE_RATE_HZ,
                embeddings=VOICES[present],
                clean_s=np.array([(who == s).sum() * 0.02 for s in present], np.float32),
            )
        )
    return answers


def turns_in(audio: Pcm16) -> Diarization:
    who = speaking(audio)
    edges = [0, *(np.flatnonzero(np.diff(who)) + 1).tolist(), len(who)]
    spoken = [(a, b, int(who[a])) for a, b in zip(edges, edges[1:], strict=False) if b > a and who[a] >= 0]
    order = {speaker: index for index, speaker in enumerate(dict.fromkeys(s for _, _, s in spoken))}
    turns = tuple(Turn(a * 0.02, b * 0.02, order[s]) for a, b, s in spoken)
    return Diarization(turns, turns, len(order))


class FakeSpeakers:
    """A `SpeakerPort` that hears exactly; raises what is put into `failures` first."""

    def __init__(self, failures: Sequence[Exception] = ()) -> None:
        self.failures = list(failures)
        self.windows: list[SpeakerWindow] = []
        self.counts: list[SpeakerCounts] = []
        self.num_calls = 0

    async def listen(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        self.num_calls += 1
        self.windows += windows
        if self.failures:
            raise self.failures.pop(0)
        return analyse(windows)

    async def diarize(self, audio: Pcm16, counts: SpeakerCounts) -> AsyncIterator[float | Diarization]:
        self.num_calls += 1
        self.counts.append(counts)
        yield 0.5
        if self.failures:
            raise self.failures.pop(0)
        yield turns_in(audio)

    async def describe(self) -> SpeakerStatus:
        return SpeakerStatus("fake", ("ears",), "cpu")
