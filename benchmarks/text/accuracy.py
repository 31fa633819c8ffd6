"""How right and how early the text is, by streaming policy: live sessions over clips with their words.

    python -m benchmarks.text.accuracy --policies all --engine torch --model tiny.en --json out/accuracy.json

Each clip is a live session of its own in real time, `--parallel` of them at a time, one policy after another
on one service with one engine and model; `upload` is the same clips through `POST /transcribe`.

- `wer`: word error rate over all clips, a fraction, after Whisper's normaliser (English its own, other
  languages its basic one); `wer_by_language` apart, in characters where writing has no spaces.
- `retractions`: stable prefixes that a later partial of the same utterance does not literally begin with.
  Under `local_agreement` and `align_att` the final must begin with the last of them too, and must come.
- `first_word_ms`, per utterance: from the start of the final's first word until a partial or final with text.
- `commit_lag_ms`, per word: from its end until it lies in the stable prefix (`stable_chars`) or in a final.
- `final_ms`: from sending the chunk that completes the utterance's end until the final, endpoint silence not
  counted; for `upload` the whole request, upload to answer.
- `flicker`: words shown in a partial and then changed, over the words of the finals.
- `rtf`: seconds of CPU of all server processes, idling included, per second of audio; `rtf_recognisers` of
  those with the model. A GPU's work is in neither.

Word times are the server's own, from its finals. `benchmarks/text/lag.py` defines all of this exactly.
Milliseconds are median and 95th percentile; they mean something only while the machine keeps up:
`machine_cpu_percent` and `late_chunks` (sent more than 100 ms late) tell. A policy that the server refuses is
a row with the reason. The exit status is 1 where a clip failed or text was retracted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clips import Clip, select_clips
from benchmarks.report import command, command_line, percent, plot_policies, print_columns, write_json
from benchmarks.scoring import Percentiles, WordErrors, word_errors
from benchmarks.service import ServiceUnderTest, say, service_under_test, snapshot
from benchmarks.text.accuracy_runs import (
    COMMITTING_POLICIES,
    POLICIES,
    UPLOAD,
    ClipRun,
    Pace,
    PolicyRun,
    run_policy,
)
from benchmarks.text.lag import TextFigures, measure_session
from serve_app.core.errors import SottoError
from serve_app.launch.cluster import LaunchError

COLUMNS = (
    "policy",
    "word errors",
    "first word, ms",
    "commit lag, ms",
    "final, ms",
    "retracted",
    "flicker",
    "rtf",
    "clips",
)


def row_of(run: PolicyRun, *, engine: str | None, model: str | None) -> dict[str, Any]:
    """What `--json` holds for one policy; figures that were not or cannot be measured are None."""
    through = [clip for clip in run.clips if clip.through]
    figures = _text_figures(through, commits=run.policy in COMMITTING_POLICIES)
    if run.policy == UPLOAD:
        figures.final_ms = [clip.request_ms for clip in through if clip.request_ms is not None]
    errors = _errors_by_language(through)
    total = sum(errors.values(), WordErrors(0, 0, 0, 0))
    audio_s = sum(clip.clip.duration_s for clip in through)
    flicker = 0.0 if run.policy == UPLOAD and through else figures.flicker
    return {
        "policy": run.policy,
        "engine": engine,
        "model": model,
        "models_reported": sorted(set().union(*(clip.models for clip in through))),
        "status": _status(run.clips),
        "reasons": sorted({reason for clip in run.clips if (reason := clip.refusal or clip.failure)}),
        "wer": round(total.rate, 4) if through else None,
        "wer_by_language": {language: round(e.rate, 4) for language, e in sorted(errors.items())},
        "retractions": figures.num_retractions,
        "first_word_ms": median_and_p95(figures.first_word_ms),
        "final_ms": median_and_p95(figures.final_ms),
        "commit_lag_ms": median_and_p95(figures.commit_lag_ms),
        "flicker": None if flicker is None else round(flicker, 4),
        "rtf": _per_audio_s(run.server_cpu_s, run, audio_s),
        "rtf_recognisers": _per_audio_s(run.recogniser_cpu_s, run, audio_s),
        "num_words": total.num_words,
        "num_clips": len(through),
        "num_clips_failed": len(run.clips) - len(through),
        "audio_s": round(audio_s, 2),
        "elapsed_s": round(run.elapsed_s, 2),
        "late_chunks": sum(clip.late_chunks for clip in through),
        "machine_cpu_percent": run.machine_cpu_percent,
    }


def median_and_p95(values: Iterable[float]) -> dict[str, float | int | None]:
    found = Percentiles.of(values)
    return {"median": found.p50, "p95": found.p95, "count": found.count}


def cells_of(row: dict[str, Any]) -> list[str]:
    """A row of the table under `COLUMNS`."""
    if not row["num_clips"]:
        return [row["policy"], row["status"], *["-"] * (len(COLUMNS) - 2)]
    return [
        row["policy"],
        percent(row["wer"]),
        *(_milliseconds(row[name]) for name in ("first_word_ms", "commit_lag_ms", "final_ms")),
        str(row["retractions"]),
        _number(row["flicker"], 2),
        _number(row["rtf"], 3),
        str(row["num_clips"]) + (f", {row['num_clips_failed']} failed" if row["num_clips_failed"] else ""),
    ]


def _text_figures(through: Sequence[ClipRun], *, commits: bool) -> TextFigures:
    each = (measure_session(clip.log, commits=commits) for clip in through if clip.log is not None)
    return sum(each, TextFigures())


def _errors_by_language(through: Sequence[ClipRun]) -> dict[str, WordErrors]:
    texts: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for clip in through:
        texts[clip.clip.language].append((clip.clip.text, clip.text))
    return {
        language: word_errors([said for said, _ in pairs], [heard for _, heard in pairs], language)
        for language, pairs in texts.items()
    }


def _status(clips: Sequence[ClipRun]) -> str:
    if clips and all(clip.refusal for clip in clips):
        return "refused"
    if all(clip.through for clip in clips):
        return "measured"
    return "partly" if any(clip.through for clip in clips) else "failed"


def _per_audio_s(cpu_s: float | None, run: PolicyRun, audio_s: float) -> float | None:
    """None too where clips failed: their share of the seconds is not known."""
    whole = all(clip.through for clip in run.clips)
    return round(cpu_s / audio_s, 4) if cpu_s is not None and audio_s and whole else None


def _milliseconds(value: dict[str, Any]) -> str:
    return "-" if value["median"] is None else f"{value['median']:.0f} / {value['p95']:.0f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


ENGINES = ("auto", "ctranslate2", "torch", "mlx")
ENGLISH_ONLY_SUFFIX = ".en"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("accuracy", __doc__)
    parser.add_argument("--policies", default="all", help=f"some of {','.join(POLICIES)}, or all")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="of a server started here")
    parser.add_argument(
        "--model", default="tiny.en", help="of a server started here, for all that it decodes"
    )
    parser.add_argument("--interim-model", help="where interims have a model of their own")
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--clips", type=Path, help="a folder of recordings with their words")
    parser.add_argument("--languages", help="only these, like en,de; en for a model that knows no other")
    parser.add_argument("--limit", type=int, help="most clips of a language")
    parser.add_argument("--max-seconds", type=float, help="cut longer clips behind a turn, or leave them out")
    parser.add_argument("--parallel", type=int, default=2, help="clips at a time")
    parser.add_argument("--speed", type=float, default=1.0, help="1 is real time")
    parser.add_argument("--chunk-ms", type=int, default=100)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    options.policies = list(POLICIES) if options.policies == "all" else options.policies.split(",")
    if unknown := [policy for policy in options.policies if policy not in POLICIES]:
        parser.error(f"unknown policies {unknown}, expected some of {', '.join(POLICIES)}")
    if options.languages:
        options.languages = options.languages.split(",")
    else:
        options.languages = ["en"] if options.model.endswith(ENGLISH_ONLY_SUFFIX) else []
    positive = (options.limit, options.max_seconds, options.parallel, options.speed)
    if any(value is not None and value <= 0 for value in positive) or not 10 <= options.chunk_ms <= 1000:
        parser.error("--limit, --max-seconds, --parallel and --speed must be positive, --chunk-ms 10 to 1000")
    return options


def service_settings(options: argparse.Namespace) -> dict[str, Any]:
    settings = {"model": options.model, "engine": options.engine}
    if options.interim_model:
        settings["interim_model"] = options.interim_model
    return settings


async def measure(
    service: ServiceUnderTest, clips: Sequence[Clip], options: argparse.Namespace
) -> dict[str, Any]:
    """Run each policy over all clips; the result is what `--json` writes."""
    pace = Pace(options.speed, options.parallel, options.chunk_ms)
    audio_s = sum(clip.duration_s for clip in clips)
    ours = options.url is None
    rows = []
    for policy in options.policies:
        say(f"{policy}: {len(clips)} clips, {audio_s:.0f} s of audio, {options.parallel} at a time")
        run = await run_policy(
            service.url, policy, clips, pace, measure=lambda: snapshot(service.runtime_dir)
        )
        rows.append(
            row_of(run, engine=options.engine if ours else None, model=options.model if ours else None)
        )
    return {
        "policies": rows,
        "languages": sorted({clip.language for clip in clips}),
        "clips": [clip.name for clip in clips],
        "parallel": options.parallel,
        "speed": options.speed,
        "chunk_ms": options.chunk_ms,
        "num_cores": os.cpu_count(),
    }


def show(result: dict[str, Any]) -> None:
    rows = result["policies"]
    first = rows[0]
    of = f"{first['engine']}, {first['model']}" if first["model"] else "a running server"
    load = f"{result['parallel']} at a time, {result['speed']:g} times real time, {result['num_cores']} cores"
    print_columns(f"Accuracy and lateness: {of}; {load}", COLUMNS, [cells_of(row) for row in rows])
    for row in rows:
        if row["num_clips"]:
            print(
                f"{row['policy']}: {row['num_words']} words, {row['audio_s']:.0f} s of audio, "
                f"machine {row['machine_cpu_percent']:.0f} % busy, {row['late_chunks']} late chunks"
            )
        for reason in row["reasons"]:
            print(f"{row['policy']} {'refused' if row['status'] == 'refused' else 'failed'}: {reason}")


@command(LaunchError, SottoError, ValueError, OSError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    clips = select_clips(
        options.clips,
        languages=options.languages,
        max_per_language=options.limit,
        max_seconds=options.max_seconds,
    )
    with service_under_test(
        options.url, profile=options.profile, settings=service_settings(options)
    ) as service:
        result = asyncio.run(measure(service, clips, options))
    show(result)
    write_json(options.json, result)
    if options.plot:
        plot_policies(options.plot, "Accuracy and lateness by policy", result["policies"])
    bad = any(row["status"] in ("failed", "partly") or row["retractions"] for row in result["policies"])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
