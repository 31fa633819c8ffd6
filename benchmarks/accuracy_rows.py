"""One row of figures for one policy, engine and model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.accuracy_runs import COMMITTING_POLICIES, OFFLINE, ClipRun, PolicyRun
from benchmarks.lag import TextFigures, measure_session
from benchmarks.report import percent
from benchmarks.scoring import Percentiles, WordErrors, word_errors

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
    if run.policy == OFFLINE:
        figures.final_ms = [clip.request_ms for clip in through if clip.request_ms is not None]
    errors = _errors_by_language(through)
    total = sum(errors.values(), WordErrors(0, 0, 0, 0))
    audio_s = sum(clip.clip.duration_s for clip in through)
    flicker = 0.0 if run.policy == OFFLINE and through else figures.flicker
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
    figures = TextFigures()
    for clip in through:
        if clip.log is not None:
            figures.add(measure_session(clip.log, commits=commits))
    return figures


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
