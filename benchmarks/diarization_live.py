"""Speakers told apart in live sessions: how well at first sight, and after later audio has corrected it.

    python -m benchmarks.diarization_live --step 2 --json out/diarization_live.json
    python -m benchmarks.diarization_live --dialogues 4 --seed 7
    python -m benchmarks.diarization_live --hours 2

Recordings are replayed window by window, as fast as it goes: a window ends where an utterance does, and every
`--step` seconds within a long one, and tells of the 10 s before. `first` is what was said of each moment when
it was heard first, `revised` what stood in the end. `--hours` tiles a few dialogues of the same voices to a
long session and looks whether every voice keeps its label and whether time and memory stay as they are.
"""

from __future__ import annotations

import argparse
import itertools
import pickle
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.diarization_recordings import (
    LONG_TURNS_S,
    SHORT_TURNS_S,
    DialogueOptions,
    DiarizationRecording,
    ReferenceTurn,
    committed_and_own,
    load_recordings,
    load_voices,
    make_dialogue,
)
from benchmarks.diarization_scoring import (
    COLLARS_S,
    TimedWord,
    diarization_errors,
    reference_words,
    speaker_count_error,
    word_speaker_errors,
)
from benchmarks.report import percent, print_table, write_json
from serve_app.asr.jobs import SAMPLE_RATE_HZ
from serve_app.errors import SottoError
from serve_app.settings import Settings
from serve_app.speakers.backends import load_analyser
from serve_app.speakers.live.labeller import LabellerOptions, OnlineLabeller
from serve_app.speakers.ports import Analyser
from serve_app.speakers.turns import Turn
from serve_app.speakers.windows import WINDOW_SAMPLES, SpeakerWindow, WindowVoices

ENDPOINT_S = 0.3
"""How long after a turn its window ends."""


@dataclass(frozen=True, slots=True)
class AnalysedWindow:
    """What the analyser said of the window from `start_s` to `end_s`, and the processor time that took."""

    start_s: float
    end_s: float
    voices: WindowVoices
    cpu_s: float = 0.0


def window_ends(recording: DiarizationRecording, step_s: float) -> list[float]:
    """Where windows end: shortly after each turn, and every `step_s` in between."""
    duration_s = recording.duration_s
    pauses = {round(min(turn.end_s + ENDPOINT_S, duration_s), 2) for turn in recording.turns}
    ends = [0.0]
    for pause_s in sorted(pauses | {round(duration_s, 2)}):
        while pause_s - ends[-1] > step_s:
            ends.append(round(ends[-1] + step_s, 2))
        ends.append(pause_s)
    return sorted(set(ends[1:]))


def analyse(
    analyser: Analyser, recording: DiarizationRecording, ends: Iterable[float]
) -> list[AnalysedWindow]:
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
    last: dict[int, Turn] = {}
    done = []
    for turn in sorted(turns, key=lambda turn: turn.start_s):
        before = last.get(turn.speaker)
        if before is not None and turn.start_s - before.end_s < 0.005:
            last[turn.speaker] = replace(before, end_s=max(before.end_s, turn.end_s))
            continue
        if before is not None:
            done.append(before)
        last[turn.speaker] = turn
    return tuple(sorted([*done, *last.values()], key=lambda turn: turn.start_s))


def nearest_holder(turns: Sequence[Turn], start_s: float, end_s: float) -> int | None:
    """The speaker with most of a stretch, else the nearest."""
    if not turns:
        return None
    return max(turns, key=lambda turn: min(turn.end_s, end_s) - max(turn.start_s, start_s)).speaker


def score(recording: DiarizationRecording, labels: LiveLabels) -> dict[str, Any]:
    """Error rates as fractions, by collar."""
    result: dict[str, Any] = {
        "name": recording.name,
        "speakers": recording.num_speakers,
        "count_error": speaker_count_error(recording, labels.revised),
    }
    words = reference_words(recording)
    for name, turns in (("first", labels.first), ("revised", labels.revised)):
        for collar_s in COLLARS_S:
            errors = diarization_errors(recording, turns, collar_s)
            result[f"{name}_der_{collar_s:g}"] = round(errors.rate, 4)
        result[f"{name}_confusion"] = round(errors.confused_s / errors.speech_s, 4)
        named = [nearest_holder(turns, word.start_s, word.end_s) for word in words]
        result[f"{name}_words_wrong"] = round(word_speaker_errors(words, named).rate, 4)
    return result


def dialogues(num_of_each: int, seed: int) -> list[DiarizationRecording]:
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
) -> tuple[DiarizationRecording, list[AnalysedWindow]]:
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
    return DiarizationRecording("long_session", np.zeros(0, np.int16), tuple(turns)), windows


def consistency(
    recording: DiarizationRecording, windows: Sequence[AnalysedWindow], block_s: float = 600.0
) -> dict[str, Any]:
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
    parser = argparse.ArgumentParser(prog="diarization_live", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--recordings", type=Path, help="a folder with RTTM files, instead of the committed ones"
    )
    parser.add_argument("--names", nargs="*", default=(), help="only these recordings")
    parser.add_argument("--dialogues", type=int, help="so many dialogues of each kind, instead of recordings")
    parser.add_argument("--hours", type=float, help="one long session, instead of recordings")
    parser.add_argument("--step", type=float, default=2.0, help="seconds between windows in long speech")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if options.step <= 0 or (options.hours or 1) <= 0:
        parser.error("--step and --hours must be positive")
    return options


def _recordings(options: argparse.Namespace) -> list[DiarizationRecording]:
    if options.dialogues:
        return dialogues(options.dialogues, options.seed)
    folders = committed_and_own() if options.recordings is None else (options.recordings,)
    return load_recordings(*folders, names=options.names)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        analyser = load_analyser(Settings())
        if options.hours:
            result = consistency(*long_session(analyser, options.hours, options.step, options.seed))
            print_table("A long session", [(name, str(value)) for name, value in result.items()])
        else:
            result = _compare(analyser, _recordings(options), options.step)
    except (SottoError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        write_json(options.json, result)
    return 0


def _compare(analyser: Analyser, recordings: Sequence[DiarizationRecording], step_s: float) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    cpu_s: list[float] = []
    take_s: list[float] = []
    for recording in recordings:
        windows = analyse(analyser, recording, window_ends(recording, step_s))
        labels = replay(windows)
        rows.append(score(recording, labels))
        cpu_s += [window.cpu_s for window in windows]
        take_s += labels.take_s
        row = rows[-1]
        first, revised = (percent(row[f"{name}_der_0.25"]) for name in ("first", "revised"))
        found = row["speakers"] + row["count_error"]
        print(
            f"{row['name']:24s} first {first}, revised {revised}, words wrong "
            f"{percent(row['revised_words_wrong'])}, {found} of {row['speakers']} speakers",
            flush=True,
        )
    result = {
        "step_s": step_s,
        "recordings": rows,
        "first_der": round(float(np.mean([row["first_der_0.25"] for row in rows])), 4),
        "revised_der": round(float(np.mean([row["revised_der_0.25"] for row in rows])), 4),
        "wrong_counts": sum(row["count_error"] != 0 for row in rows),
        "window_cpu_ms": round(1000 * float(np.mean(cpu_s)), 1),
        "take_cpu_ms": round(1000 * float(np.mean(take_s)), 2),
    }
    shown = [(name, str(value)) for name, value in result.items() if name != "recordings"]
    print_table("Speakers of live sessions", shown)
    return result


if __name__ == "__main__":
    sys.exit(main())
