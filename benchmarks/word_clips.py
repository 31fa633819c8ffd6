"""Clips of one word each, cut out of recordings whose words are known.

A word's place comes from an alignment in the full window, and only words that are heard as they are written
are taken. Around each stands what an endpointer keeps, 0.2 s on both sides: the recording itself where
nothing else is said there, elsewhere the quietest stretch of the same recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np

from benchmarks.clips import Clip
from benchmarks.scoring import normalise
from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16, Word

MARGIN_S = 0.2
WORD_S = (0.2, 1.2)
MIN_LETTERS = 3
_FADE_S = 0.01
_STEP_S = 0.02

Align = Callable[[Pcm16], Sequence[Word]]
"""The words of a recording with their times."""


@dataclass(frozen=True, slots=True)
class Place:
    """A word in a recording. `free_s`: seconds before and behind it in which no other word is."""

    text: str
    start_s: float
    end_s: float
    free_s: tuple[float, float]


def word_clips(
    recordings: Sequence[Clip], align: Align, num_clips: int, margin_s: float = MARGIN_S
) -> list[Clip]:
    """Those words that stand most alone; no word twice."""
    found = [
        (place, clip)
        for clip in recordings
        for place in places_of(align(clip.samples), clip.text, clip.language)
    ]
    found.sort(key=lambda one: -max(one[0].free_s))
    chosen: dict[str, Clip] = {}
    for place, clip in found:
        if len(chosen) < num_clips and place.text not in chosen:
            name = f"{clip.name}@{place.start_s:.2f}"
            chosen[place.text] = Clip(
                name, cut_word(clip.samples, place, margin_s), place.text, clip.language
            )
    return sorted(chosen.values(), key=lambda clip: clip.name)


def places_of(words: Sequence[Word], text: str, language: str = "en") -> list[Place]:
    """The heard words that stand in the text, of a length and spelling that can be told alone."""
    heard = [normalise(word.word, language) for word in words]
    written = [normalise(word, language) for word in text.split()]
    matches = SequenceMatcher(None, heard, written, autojunk=False).get_matching_blocks()
    right = {match.a + offset for match in matches for offset in range(match.size)}
    gaps = [MARGIN_S, *(max(0.0, b.start_s - a.end_s) for a, b in pairwise(words)), MARGIN_S]
    return [
        Place(heard[i], word.start_s, word.end_s, (gaps[i], gaps[i + 1]))
        for i, word in enumerate(words)
        if i in right
        and len(heard[i]) >= MIN_LETTERS
        and heard[i].isalpha()
        and WORD_S[0] <= word.end_s - word.start_s <= WORD_S[1]
    ]


def cut_word(samples: Pcm16, place: Place, margin_s: float = MARGIN_S) -> Pcm16:
    """The word and so many seconds on both sides of it."""
    before, behind = (min(margin_s, free / 2) for free in place.free_s)
    first = max(0, round((place.start_s - before) * SAMPLE_RATE_HZ))
    last = round((place.end_s + behind) * SAMPLE_RATE_HZ)
    word = samples[first:last].astype(np.float64)
    fade = np.linspace(0.0, 1.0, round(_FADE_S * SAMPLE_RATE_HZ))
    word[: len(fade)] *= fade
    word[-len(fade) :] *= fade[::-1]
    room = quietest(samples, margin_s)
    missing = [round((margin_s - kept) * SAMPLE_RATE_HZ) for kept in (before, behind)]
    parts = [room[: missing[0]], np.round(word).astype(np.int16), room[: missing[1]]]
    return np.concatenate(parts).astype(np.int16)


def quietest(samples: Pcm16, seconds: float) -> Pcm16:
    """The stretch of so many seconds with the least energy."""
    length, step = round(seconds * SAMPLE_RATE_HZ), round(_STEP_S * SAMPLE_RATE_HZ)
    energy = np.concatenate([np.zeros(1), np.cumsum(np.square(samples, dtype=np.float64))])
    sums = energy[length:] - energy[:-length]
    start = int(np.argmin(sums[::step])) * step
    return samples[start : start + length]
