"""Words put where there is sound: an alignment stretches the word beside a pause over all of it.

The path of an alignment has to pass every state, so the first word behind ten seconds of silence begins at
0.0, and one behind a pause in mid-sentence may take the pause. How loud each 20 ms is tells where it is
spoken. openai-whisper shortens such words to twice the median; that stands here for words whose pause is not
quiet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from serve_app.core.jobs import Word
from serve_app.core.samples import FULL_SCALE, SAMPLE_RATE_HZ, Pcm16

_FRAMES_PER_S: Final = 50
_MIN_PAUSE_FRAMES: Final = 25
"""Inside a word there is no half second of quiet."""
_MARGIN_FRAMES: Final = 3
"""Of what is quiet, this much beside the sound stays: a consonant begins softly."""
_BELOW_PEAK_DB: Final = 30.0
_ABOVE_NOISE_DB: Final = 8.0
_MIN_RANGE_DB: Final = 12.0
"""Sound stands out from the quiet around it by this much, or the quiet is none."""
_MAX_WORD_S: Final = 2.0
_MAX_MEDIAN_S: Final = 0.7

Levels = npt.NDArray[np.float64]


def where_heard(words: Sequence[Word], audio: Pcm16) -> tuple[Word, ...]:
    """The same words, those that were stretched over a pause cut to where they sound; still in order."""
    levels = _levels(audio)
    usual_s = 2 * min(_MAX_MEDIAN_S, median([word.end_s - word.start_s for word in words] or [0.0]))
    heard = [_cut(word, levels, usual_s) for word in words]
    return tuple(_gather_before_first(heard, levels))


def sounding(audio: Pcm16) -> tuple[int, int]:
    """The samples `[start, end)` that are left where quiet at the beginning and at the end is passed over."""
    levels = _levels(audio)
    if len(levels) == 0 or float(levels.max() - levels.min()) < _MIN_RANGE_DB:
        return 0, len(audio)
    noise = float(np.percentile(levels, 10))
    loud = np.flatnonzero(levels >= max(float(levels.max()) - _BELOW_PEAK_DB, noise + _ABOVE_NOISE_DB))
    size = SAMPLE_RATE_HZ // _FRAMES_PER_S
    begin, end = int(loud[0]) - _MARGIN_FRAMES, int(loud[-1]) + 1 + _MARGIN_FRAMES
    start = begin * size if begin >= _MIN_PAUSE_FRAMES else 0
    return start, end * size if len(levels) - end >= _MIN_PAUSE_FRAMES else len(audio)


def _levels(audio: Pcm16) -> Levels:
    """Decibels of every 20 ms, against one step of a sample."""
    size = SAMPLE_RATE_HZ // _FRAMES_PER_S
    frames = audio[: len(audio) // size * size].reshape(-1, size).astype(np.float64)
    levels: Levels = 10 * np.log10(np.maximum(np.mean(frames**2, axis=1), 1.0))
    return levels


def _cut(word: Word, levels: Levels, usual_s: float) -> Word:
    first, last = round(word.start_s * _FRAMES_PER_S), round(word.end_s * _FRAMES_PER_S)
    if last - first <= _MIN_PAUSE_FRAMES:
        return word
    piece = _loudest_piece(levels[first:last])
    if piece is not None:
        begin = max(first, first + piece[0] - _MARGIN_FRAMES)
        end = min(last, first + piece[1] + _MARGIN_FRAMES)
        start_s = word.start_s if begin == first else begin / _FRAMES_PER_S
        end_s = word.end_s if end == last else end / _FRAMES_PER_S
        word = replace(word, start_s=round(start_s, 3), end_s=round(end_s, 3))
    if word.end_s - word.start_s > _MAX_WORD_S:
        word = replace(word, start_s=round(word.end_s - max(usual_s, 0.2), 3))
    return word


def _loudest_piece(levels: Levels) -> tuple[int, int] | None:
    """The frames `[begin, end)` of a word, of the pieces that pauses set apart; None: it has no pause."""
    if len(levels) == 0:
        return None
    peak = float(levels.max())
    # A stretched word is mostly pause: the middle of its levels is what the pause sounds like.
    noise = float(np.median(levels)) if len(levels) > 4 * _MIN_PAUSE_FRAMES else float(levels.min())
    threshold = max(peak - _BELOW_PEAK_DB, noise + _ABOVE_NOISE_DB)
    if peak - float(levels.min()) < _MIN_RANGE_DB or threshold >= peak:
        return None
    loud = np.flatnonzero(levels >= threshold)
    edges = np.concatenate([[-1], loud, [len(levels)]])
    if int(np.diff(edges).max()) - 1 < _MIN_PAUSE_FRAMES:
        return None
    parts = np.split(loud, np.flatnonzero(np.diff(loud) > _MIN_PAUSE_FRAMES) + 1)
    best = max(parts, key=lambda part: float(np.sum(10 ** (levels[part] / 10))))
    return int(best[0]), int(best[-1]) + 1


def _gather_before_first(words: list[Word], levels: Levels) -> list[Word]:
    """Words that lie in the quiet before the first sound share the first word that is heard."""
    peak = float(levels.max()) if len(levels) else 0.0
    sounding = [index for index, word in enumerate(words) if _peak(word, levels) >= peak - _BELOW_PEAK_DB]
    first = sounding[0] if sounding else 0
    if first == 0 or words[first].start_s - words[0].start_s < _MIN_PAUSE_FRAMES / _FRAMES_PER_S:
        return words
    start_s, end_s = words[first].start_s, words[first].end_s
    lengths = np.cumsum([0, *(max(1, len(word.word.strip())) for word in words[: first + 1])])
    times = [round(start_s + (end_s - start_s) * float(at) / float(lengths[-1]), 3) for at in lengths]
    shared = [
        replace(word, start_s=times[index], end_s=times[index + 1])
        for index, word in enumerate(words[: first + 1])
    ]
    return [*shared, *words[first + 1 :]]


def _peak(word: Word, levels: Levels) -> float:
    first = round(word.start_s * _FRAMES_PER_S)
    last = max(first + 1, round(word.end_s * _FRAMES_PER_S))
    part = levels[first:last]
    return float(part.max()) if len(part) else 0.0


# -- silence -----------------------------------------------------------------------------------------------

MAX_SILENT_RMS = 10.0
"""Loudest 20 ms of what counts as silence, in int16 steps: -70 dBFS, below any microphone's own noise."""

ROOM_TONE_LEVEL = 0.005
"""Standard deviation (-46 dBFS) of the white noise whose states stand behind the speech. Digital silence
there costs words: docs/decisions.md has the comparison."""

_FRAME_SAMPLES = SAMPLE_RATE_HZ // 50


def is_silent(audio: Pcm16) -> bool:
    """Whether no 20 ms of the audio are louder than `MAX_SILENT_RMS`; true of no audio at all."""
    whole = len(audio) // _FRAME_SAMPLES * _FRAME_SAMPLES
    for part in (audio[:whole].reshape(-1, _FRAME_SAMPLES), audio[whole:].reshape(1, -1)):
        if part.size:
            power = np.square(part, dtype=np.float32).mean(axis=1)
            if power.max() > MAX_SILENT_RMS**2:
                return False
    return True


def room_tone(seconds: float, level: float = ROOM_TONE_LEVEL) -> Pcm16:
    """An empty room, int16 at 16 kHz: white noise, always the same."""
    noise = np.random.default_rng(0).normal(0.0, level * FULL_SCALE, round(seconds * SAMPLE_RATE_HZ))
    return np.round(noise).astype(np.int16)
