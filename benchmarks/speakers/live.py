"""A session of hours: whether every voice keeps its label, and whether time and memory stay as they are.

    python -m benchmarks.speakers.live --hours 2

A few dialogues of the same five voices are tiled and replayed window by window, as fast as it goes: a window
ends where an utterance does, and every `--step` seconds within a long one, and tells of the 10 s before.
How well voices are told apart in a live session is `python -m benchmarks.speakers.error_rates --modes live`.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.clips import Clip
from benchmarks.clips import Turn as ReferenceTurn
from benchmarks.report import command, command_line, print_table, write_json
from benchmarks.speakers.recordings import (
    LONG_TURNS_S,
    SHORT_TURNS_S,
    DialogueOptions,
    load_voices,
    make_dialogue,
)
from benchmarks.speakers.scoring import TimedWord, reference_words, word_speaker_errors
from serve_app.assembly.speakers import load_analyser
from serve_app.core.errors import SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.settings import Settings
from serve_app.speakers.live.labeller import LabellerOptions, OnlineLabeller
from serve_app.speakers.ports import WINDOW_SAMPLES, Analyser, SpeakerWindow, WindowVoices
from serve_app.speakers.recordings.diarizer import join_turns
from serve_app.speakers.turns import Turn

ENDPOINT_S = 0.3
"""How long after a turn its window ends."""


@dataclass(frozen=True, slots=True)
class AnalysedWindow:
    """What the analyser said of the window from `start_s` to `end_s`, and the processor time that took."""

    start_s: float
    end_s: float
    voices: WindowVoices
    cpu_s: float = 0.0


def window_ends(recording: Clip, step_s: float) -> list[float]:
    """Where windows end: shortly after each turn, and every `step_s` in between."""
    duration_s = recording.duration_s
    pauses = {round(min(turn.end_s + ENDPOINT_S, duration_s), 2) for turn in recording.turns}
    ends = [0.0]
    for pause_s in sorted(pauses | {round(duration_s, 2)}):
        while pause_s - ends[-1] > step_s:
            ends.append(round(ends[-1] + step_s, 2))
        ends.append(pause_s)
    return sorted(set(ends[1:]))


def analyse(analyser: Analyser, recording: Clip, ends: Iterable[float]) -> list[AnalysedWindow]:
    """The window before each of `ends`, one at a time."""
    analysed = []
    for end_s in ends:
        end = round(end_s * SAMPLE_RATE_HZ)
        start = max(0, end - WINDOW_SAMPLES)
        started = time.process_time()
        voices = analyser.analyse([SpeakerWindow(recording.samples[start:end])])[0]
        spent_s = time.process_time() - started
        analysed.append(AnalysedWindow(start / SAMPLE_RATE_HZ, end_s, voices, spent_s))
    return analysed


@dataclass(frozen=True, slots=True)
class LiveLabels:
    """What a session was told: at first sight and in the end; and what each `take` cost, in seconds."""

    first: tuple[Turn, ...]
    revised: tuple[Turn, ...]
    take_s: tuple[float, ...]


def replay(windows: Iterable[AnalysedWindow], options: LabellerOptions | None = None) -> LiveLabels:
    """All that is settled is read while it is still kept, so a session may be of any length."""
    labeller = OnlineLabeller(options)
    first: list[Turn] = []
    revised: list[Turn] = []
    take_s = []
    for window in windows:
        covered_s, settled_s = labeller.covered_until_s, labeller.settled_until_s
        started = time.process_time()
        labeller.take(window.start_s, window.voices)
        take_s.append(time.process_time() - started)
        first += labeller.turns(covered_s)
        if labeller.settled_until_s > settled_s:
            revised += _until(labeller.turns(settled_s), labeller.settled_until_s)
    revised += labeller.turns(labeller.settled_until_s)
    return LiveLabels(_joined(first), _joined(revised), tuple(take_s))


def _until(turns: Iterable[Turn], end_s: float) -> list[Turn]:
    return [replace(turn, end_s=min(turn.end_s, end_s)) for turn in turns if turn.start_s < end_s]


def _joined(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Turns that were read in pieces are one again."""
    found = list(turns)
    whole = [
        turn
        for speaker in {turn.speaker for turn in found}
        for turn in join_turns((turn for turn in found if turn.speaker == speaker), 0.005)
    ]
    return tuple(sorted(whole, key=lambda turn: turn.start_s))


def nearest_holder(turns: Sequence[Turn], start_s: float, end_s: float) -> int | None:
    """The speaker with most of a stretch, else the nearest."""
    if not turns:
        return None
    return max(turns, key=lambda turn: min(turn.end_s, end_s) - max(turn.start_s, start_s)).speaker


def dialogues(num_of_each: int, seed: int) -> list[Clip]:
    """For two to five speakers: long turns, short turns, and mixed ones with overlaps."""
    voices = load_voices()
    kinds = {
        "long": DialogueOptions(turn_s=LONG_TURNS_S),
        "short": DialogueOptions(turn_s=SHORT_TURNS_S),
        "mixed": DialogueOptions(turn_s=(0.8, 6.0), overlap_probability=0.2),
    }
    made = []
    for number, num_speakers in itertools.product(range(num_of_each), range(2, 6)):
        for index, (kind, options) in enumerate(kinds.items()):
            own_seed = 1000 * seed + 100 * number + 10 * num_speakers + index
            recording = make_dialogue(voices, num_speakers, own_seed, options)
            made.append(replace(recording, name=f"{kind}_{num_speakers}_{own_seed}"))
    return made


def long_session(
    analyser: Analyser, hours: float, step_s: float, seed: int
) -> tuple[Clip, list[AnalysedWindow]]:
    """Minutes of five voices, in changing order and company, tiled; analysed once each. The recording that
    is returned has no audio."""
    voices = load_voices()
    random = np.random.default_rng(seed)
    chosen = [str(name) for name in random.permutation(sorted(voices))[:5]]
    parts = []
    for number in range(6):
        company = {name: voices[name] for name in chosen[number % 5 :] + chosen[: number % 5]}
        options = DialogueOptions(turn_s=LONG_TURNS_S if number % 2 else SHORT_TURNS_S)
        recording = make_dialogue(company, 2 + number % 4, seed + number, options)
        parts.append((recording, analyse(analyser, recording, window_ends(recording, step_s))))
    windows: list[AnalysedWindow] = []
    turns: list[ReferenceTurn] = []
    at_s = 0.0
    while at_s < 3600 * hours:
        recording, analysed = parts[int(random.integers(len(parts)))]
        for window in analysed:
            windows.append(replace(window, start_s=window.start_s + at_s, end_s=window.end_s + at_s))
        for turn in recording.turns:
            turns.append(replace(turn, start_s=turn.start_s + at_s, end_s=turn.end_s + at_s))
        at_s += round(recording.duration_s, 2)
    return Clip("long_session", np.zeros(0, np.int16), "", turns=tuple(turns)), windows


def consistency(recording: Clip, windows: Sequence[AnalysedWindow], block_s: float = 600.0) -> dict[str, Any]:
    """Under one mapping of labels for the whole session: voices that lose their label in a block; costs."""
    labels = replay(windows)
    words = reference_words(recording)
    starts = np.array([turn.start_s for turn in labels.revised])
    named = []
    for word in words:
        near = slice(*np.searchsorted(starts, (word.start_s - 30, word.end_s + 30)).tolist())
        named.append(nearest_holder(labels.revised[near], word.start_s, word.end_s))
    whole = word_speaker_errors(words, named)
    usual = _usual_labels(zip(words, named, strict=True))
    blocks: dict[int, list[tuple[TimedWord, int | None]]] = {}
    for word, label in zip(words, named, strict=True):
        blocks.setdefault(int(word.start_s // block_s), []).append((word, label))
    num_moved = sum(
        label != usual[voice] for block in blocks.values() for voice, label in _usual_labels(block).items()
    )
    quarter = max(1, len(labels.take_s) // 4)
    return {
        "hours": round(words[-1].end_s / 3600, 2),
        "windows": len(windows),
        "speakers": recording.num_speakers,
        "speakers_found": len({turn.speaker for turn in labels.revised}),
        "words_wrong": round(whole.rate, 4),
        "blocks_with_another_label": num_moved,
        "take_ms_second_quarter": round(1000 * float(np.mean(labels.take_s[quarter : 2 * quarter])), 2),
        "take_ms_last_quarter": round(1000 * float(np.mean(labels.take_s[-quarter:])), 2),
        "held_bytes": held_bytes(windows),
    }


def _usual_labels(named: Iterable[tuple[TimedWord, int | None]]) -> dict[str, int | None]:
    """Each voice's most frequent label."""
    labels: dict[str, list[int | None]] = {}
    for word, label in named:
        labels.setdefault(word.speaker, []).append(label)
    return {voice: max(set(own), key=own.count) for voice, own in labels.items()}


def held_bytes(windows: Sequence[AnalysedWindow], every: float = 0.25) -> list[int]:
    """What a labeller holds after each quarter of a session."""
    labeller = OnlineLabeller()
    held = []
    marks = [round(len(windows) * every * (number + 1)) for number in range(round(1 / every))]
    for number, window in enumerate(windows, 1):
        labeller.take(window.start_s, window.voices)
        if number in marks:
            held.append(len(pickle.dumps(labeller)))
    return held


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("live", __doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--step", type=float, default=2.0, help="seconds between windows in long speech")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.step <= 0 or options.hours <= 0:
        parser.error("--step and --hours must be positive")
    return options


@command(SottoError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    analyser = load_analyser(Settings())
    result = consistency(*long_session(analyser, options.hours, options.step, options.seed))
    print_table("A long session", [(name, str(value)) for name, value in result.items()])
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
