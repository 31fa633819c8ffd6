"""How well speakers are told apart, live and in recordings: error rates, speakers found, wrong words.

    python -m benchmarks.speakers.error_rates --json out/diarization.json
    python -m benchmarks.speakers.error_rates --recordings FOLDER --modes live
    python -m benchmarks.speakers.error_rates --dialogues 2 --seed 11

Recordings are files with an RTTM file beside them: the committed ones, or those of a folder; or dialogues
made of single voices. No number of speakers is given. `recordings` is the pipeline for recordings; `live` a
session of the service with its own windows, text taken from the reference, as it stands in the end (`first`:
as it was said first). Error rates are those of pyannote.metrics, overlapping speech included, with collars of
0 and 0.25 s. How late labels come is measured on the running service: benchmarks.speakers.lag.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.clips import Clip
from benchmarks.report import command, command_line, percent, print_columns, write_json
from benchmarks.service import say
from benchmarks.speakers.live import dialogues, nearest_holder, replay
from benchmarks.speakers.recordings import committed_and_own, load_recordings
from benchmarks.speakers.scoring import (
    COLLARS_S,
    DiarizationErrors,
    WordSpeakerErrors,
    diarization_errors,
    reference_words,
    word_speaker_errors,
)
from benchmarks.speakers.session import run_session
from serve_app.assembly.speakers import load_analyser, load_diarizer
from serve_app.assembly.voice_activity import load_detector
from serve_app.core.errors import SottoError
from serve_app.settings import Settings
from serve_app.speakers.turns import SpeakerCounts, Turn

MODES = ("recordings", "live")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("error_rates", __doc__)
    parser.add_argument("--recordings", type=Path, nargs="*", help="folders with RTTM files")
    parser.add_argument("--names", nargs="*", default=(), help="only these recordings")
    parser.add_argument("--dialogues", type=int, help="dialogues of each kind, instead of recordings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES)
    parser.add_argument("--step", type=float, default=5.0, help="seconds between windows in long speech")
    return parser.parse_args(arguments)


def chosen_recordings(options: argparse.Namespace) -> list[Clip]:
    """Raises `ValueError` where there are none."""
    if options.dialogues:
        return dialogues(options.dialogues, options.seed)
    return load_recordings(*(options.recordings or committed_and_own()), names=options.names)


def score(recording: Clip, turns: Sequence[Turn], words: WordSpeakerErrors, cpu_s: float) -> dict[str, Any]:
    """One recording in one mode; rates are fractions."""
    errors = {f"der_{collar_s:g}": diarization_errors(recording, turns, collar_s) for collar_s in COLLARS_S}
    return {
        "name": recording.name,
        "speakers": recording.num_speakers,
        "found": len({turn.speaker for turn in turns}),
        **{name: round(each.rate, 4) for name, each in errors.items()},
        "parts": {
            name: [round(each.speech_s, 2), round(each.missed_s, 2), round(each.false_alarm_s, 2),
                   round(each.confused_s, 2)]
            for name, each in errors.items()
        },
        "words": words.num_words,
        "words_wrong": words.num_wrong,
        "cpu_per_audio_s": round(cpu_s / recording.duration_s, 4),
    }  # fmt: skip


def run_recordings(recordings: Sequence[Clip]) -> list[dict[str, Any]]:
    diarizer = load_diarizer(Settings())
    rows = []
    for recording in recordings:
        started = time.process_time()
        found = diarizer.diarize(recording.samples, SpeakerCounts(), lambda _: None, lambda: None)
        spent_s = time.process_time() - started
        words = reference_words(recording)
        named = [nearest_holder(found.exclusive, word.start_s, word.end_s) for word in words]
        rows.append(score(recording, found.turns, word_speaker_errors(words, named), spent_s))
        _say("recordings", rows[-1])
    return rows


def run_live(recordings: Sequence[Clip], step_s: float) -> list[dict[str, Any]]:
    analyser, detector = load_analyser(Settings()), load_detector("silero")
    rows = []
    for recording in recordings:
        run = run_session(recording, analyser, detector, step_s)
        labels = replay(run.windows)
        spent_s = sum(window.cpu_s for window in run.windows) + sum(labels.take_s)
        words = word_speaker_errors(run.words, run.revised)
        row = score(recording, labels.revised, words, spent_s)
        row["first"] = {
            f"der_{collar_s:g}": round(diarization_errors(recording, labels.first, collar_s).rate, 4)
            for collar_s in COLLARS_S
        }
        row["first"]["words_wrong"] = word_speaker_errors(run.words, run.first).num_wrong
        row["words_unlabelled"] = sum(speaker is None for speaker in run.revised)
        row["windows"] = len(run.windows)
        rows.append(row)
        _say("live", row)
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All recordings as one: errors and words added up."""
    result: dict[str, Any] = {}
    for collar in (f"der_{collar_s:g}" for collar_s in COLLARS_S):
        total = sum(
            (DiarizationErrors(*row["parts"][collar]) for row in rows), DiarizationErrors(0.0, 0.0, 0.0, 0.0)
        )
        result[collar] = round(total.rate, 4)
    words = sum(
        (WordSpeakerErrors(row["words"], row["words_wrong"]) for row in rows), WordSpeakerErrors(0, 0)
    )
    result["word_speaker_error"] = round(words.rate, 4)
    result["recordings_with_the_right_number"] = sum(row["found"] == row["speakers"] for row in rows)
    result["recordings"] = list(rows)
    return result


def _say(mode: str, row: dict[str, Any]) -> None:
    say(f"{mode}: {row['name']}, {percent(row['der_0.25'])}, {row['found']} of {row['speakers']} speakers")


@command(SottoError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    recordings = chosen_recordings(options)
    rows = {
        mode: run_recordings(recordings) if mode == "recordings" else run_live(recordings, options.step)
        for mode in options.modes
    }
    modes = {mode: summary(found) for mode, found in rows.items()}
    print_columns(
        "Who spoke",
        ("recording", "mode", "speakers", "found", "DER", "DER, collar 0.25 s", "words wrong", "CPU per s"),
        [
            (
                row["name"], mode, str(row["speakers"]), str(row["found"]), percent(row["der_0"]),
                percent(row["der_0.25"]), f"{row['words_wrong']} of {row['words']}",
                f"{1000 * row['cpu_per_audio_s']:.0f} ms",
            )
            for mode, found in rows.items()
            for row in found
        ],
    )  # fmt: skip
    write_json(options.json, {"der": {mode: each["der_0.25"] for mode, each in modes.items()}, **modes})
    return 0


if __name__ == "__main__":
    sys.exit(main())
