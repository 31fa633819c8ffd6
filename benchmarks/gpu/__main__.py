"""What a card does with each engine, model and precision: batches, memory, and how many speakers it holds.

    python -m benchmarks.gpu --models tiny,small,large-v3-turbo --json out/gpu.json
    python -m benchmarks.gpu --device cpu          (small shapes, to try it without a card)

Models that are not here are made with random weights of their true shape: the text is noise, so the number of
tokens is set (four per second of speech), and the end token never comes. Timed are encoding, splicing silence
behind it and greedy decoding, in the windows that finals have.

- `latency`: the median batch. `streams`: people who speak without a pause, decoded once, in real time.
- `speakers`: how many people one card hears where this engine decodes their interims and finals, by the
  reckoning of `sotto plan` from these batches (None: too few were timed).
- `rows` of the JSON: each timed batch of the fastest engine and precision per model; `curves` has them all.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu.batches import BatchPlan, Curve, Point, measure_curve
from benchmarks.gpu.models import write_random_model
from benchmarks.report import command_line, print_columns, write_json
from serve_app.asr.engines.choice import is_installed
from serve_app.capacity.machine import read_gpus, visible_gpus
from serve_app.capacity.plan import MAX_BUSY, PlanRequest, busy_per_speaker, expected_p95_ms
from serve_app.capacity.throughput import MIN_SAMPLES, DecodeCost, DecodeSample
from serve_app.core.errors import ModelUnavailable
from serve_app.models.registry import find_spec
from serve_app.models.report import ModelFormat
from serve_app.models.resolve import resolve_model

NO_CARD = (
    "No GPU can be used here: neither CTranslate2 nor torch sees a CUDA device, so nothing was measured. "
    "--device cpu runs small shapes on the CPU instead, to try the benchmark."
)
MODELS = "tiny,base,small,medium,large-v3,large-v3-turbo"
PRECISIONS = "int8,int8_float16,float16,bfloat16"
ENGINES = ("ctranslate2", "torch")
MAX_BATCH = 1024


class _Defaults(NamedTuple):
    models: str
    precisions: str
    batches: str
    repeats: int


_ON_A_CARD = _Defaults(MODELS, PRECISIONS, "1,2,4,8,16,32,64", 5)
_ON_A_CPU = _Defaults("tiny", "int8,float32", "1,2,4", 2)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("gpu", __doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", help=f"names, by default {MODELS}; on a CPU tiny")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--precisions", help=f"by default {PRECISIONS}; on a CPU int8,float32")
    parser.add_argument("--batches", help="sizes, rising")
    parser.add_argument("--windows", default="3,8", help="seconds of speech in a window")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--max-latency", type=float, default=5.0, help="stop growing batches beyond this, s")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--final-bar", type=float, default=0.9, help="95th percentile of finals, s")
    parser.add_argument("--models-dir", type=Path, help="keep the made models here")
    options = parser.parse_args(arguments)
    defaults = _ON_A_CPU if options.device == "cpu" else _ON_A_CARD
    for name, value in defaults._asdict().items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    try:
        options.batches = sorted({int(size) for size in options.batches.split(",")})
        options.windows = sorted({float(seconds) for seconds in options.windows.split(",")})
    except ValueError:
        parser.error("--batches are whole numbers, --windows are seconds")
    for name in ("models", "engines", "precisions"):
        setattr(options, name, [part for part in getattr(options, name).split(",") if part])
    unknown = [model for model in options.models if find_spec(model) is None]
    if unknown or set(options.engines) - set(ENGINES):
        parser.error(f"unknown: {', '.join([*unknown, *sorted(set(options.engines) - set(ENGINES))])}")
    if not 1 <= options.batches[0] <= options.batches[-1] <= MAX_BATCH or options.repeats < 1:
        parser.error(f"--batches go from 1 to {MAX_BATCH}, --repeats from 1")
    if not 0 < options.windows[0] <= options.windows[-1] <= 30:
        parser.error("--windows are over 0 and up to 30 s")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.device == "cuda" and not has_card():
        print(NO_CARD, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="sotto-gpu-") as scratch:
        result = run(options, options.models_dir or Path(scratch))
    write_json(options.json, result)
    return 0


def has_card() -> bool:
    """Whether an engine could use one."""
    import ctranslate2

    if ctranslate2.get_cuda_device_count() > 0:
        return True
    if not is_installed("torch"):
        return False
    import torch

    return bool(torch.cuda.is_available())


def run(options: argparse.Namespace, models_dir: Path) -> dict[str, Any]:
    """Measure everything asked for, print it, and give it back as it goes into the JSON."""
    plan = BatchPlan(
        windows_s=options.windows,
        batches=options.batches,
        repeats=options.repeats,
        max_latency_s=options.max_latency,
        device=options.device,
        threads=options.threads,
    )
    device = device_name(options.device)
    curves: list[Curve] = []
    weights: dict[str, str] = {}
    for model in options.models:
        folder, weights[model] = model_folder(model, models_dir)
        for engine, precision in combinations(options.engines, options.precisions):
            print(f"{model} ({weights[model]} weights), {engine}, {precision}", file=sys.stderr)
            curves.append(measure_curve(engine, model, folder, precision, plan))
    speakers = [speakers_held(curve, 1000 * options.final_bar) for curve in curves]
    _print_curves(device, curves)
    _print_speakers(device, curves, speakers, options.final_bar)
    return {
        "device": device,
        "gpus": [asdict(gpu) for gpu in visible_gpus(read_gpus())] if options.device == "cuda" else [],
        "versions": _versions(),
        "weights": weights,
        "rows": list(rows_of(curves)),
        "curves": [curve_json(curve, held) for curve, held in zip(curves, speakers, strict=True)],
    }


def combinations(engines: Sequence[str], precisions: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Engines that are installed with precisions that they have: torch has no int8."""
    for engine in ENGINES:
        if engine in engines and is_installed(engine):
            for precision in precisions:
                if engine == "ctranslate2" or not precision.startswith("int"):
                    yield engine, precision


def model_folder(model: str, models_dir: Path) -> tuple[Path, str]:
    """The model's own folder where it is here as CTranslate2 has it, else one with random weights."""
    spec = find_spec(model)
    if spec is None or spec.architecture is None:
        raise ModelUnavailable(f"the shape of {model} is not known")
    try:
        return resolve_model(model, offline=True, formats=(ModelFormat.CTRANSLATE2,)).path, "real"
    except ModelUnavailable:
        folder = models_dir / spec.name
        if not (folder / "tokenizer.json").is_file():
            write_random_model(folder, spec.architecture)
        return folder, "random"


def device_name(device: str) -> str:
    if device == "cpu":
        return f"CPU ({platform.machine()})"
    gpus = visible_gpus(read_gpus())
    if gpus:
        return gpus[0].name
    if is_installed("torch"):
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name(0))
    return "CUDA device"


def rows_of(curves: Sequence[Curve]) -> Iterator[dict[str, Any]]:
    """Each timed batch of every model's fastest curve."""
    best: dict[str, Curve] = {}
    for curve in curves:
        if curve.measured and (
            curve.model not in best or curve.best_streams > best[curve.model].best_streams
        ):
            best[curve.model] = curve
    for model, curve in best.items():
        for point in curve.measured:
            for busy_s in point.busy_s:
                yield {
                    "model": model,
                    "engine": curve.engine,
                    "compute_type": curve.compute_type,
                    "batch": point.batch,
                    "audio_s": point.audio_s,
                    "busy_s": busy_s,
                }


def speakers_held(curve: Curve, bar_ms: float) -> int | None:
    """None where too few batches were timed to say."""
    timed = [
        DecodeSample((point.audio_s,) * point.batch, busy_s)
        for point in curve.measured
        for busy_s in point.busy_s
    ]
    if len(timed) < MIN_SAMPLES:
        return None
    cost = DecodeCost.fitted(timed)
    batch = min(64, max(point.batch for point in curve.measured))
    request = PlanRequest(1, curve.model, "", interim_model=curve.model, batch=batch)
    most = int(MAX_BUSY / busy_per_speaker(request, cost, cost))
    loads = range(1, most + 1)
    return bisect_right(loads, bar_ms, key=lambda number: expected_p95_ms(request, cost, cost, number))


def curve_json(curve: Curve, speakers: int | None) -> dict[str, Any]:
    points = [
        {
            **asdict(point),
            **({} if point.failure else {"latency_s": point.latency_s, "streams": point.streams}),
        }
        for point in curve.points
    ]
    return {**asdict(curve), "points": points, "speakers": speakers}


# -- printed -----------------------------------------------------------------------------------------


def _print_curves(device: str, curves: Sequence[Curve]) -> None:
    columns = (
        *("model", "engine, precision", "window s", "batch"),
        *("latency ms", "encoder ms", "drafted ms", "streams", "GB"),
    )
    rows = []
    for curve in curves:
        name = f"{curve.engine}, {curve.compute_type}"
        if curve.failure:
            rows.append((curve.model, f"{name}: {curve.failure}", *[""] * 7))
        for point in curve.points:
            figures = (point.failure, *[""] * 4) if point.failure else _figures(point)
            rows.append((curve.model, name, f"{point.audio_s:g}", str(point.batch), *figures))
    print_columns(f"Batches on {device}", columns, rows)


def _figures(point: Point) -> tuple[str, str, str, str, str]:
    memory = "" if point.memory_bytes is None else f"{point.memory_bytes / 1e9:.2f}"
    return (
        f"{1000 * point.latency_s:.0f}",
        f"{1000 * point.encode_s:.0f}",
        "" if point.drafted_s is None else f"{1000 * point.drafted_s:.0f}",
        f"{point.streams:.1f}",
        memory,
    )


def _print_speakers(
    device: str, curves: Sequence[Curve], speakers: Sequence[int | None], bar_s: float
) -> None:
    columns = ("model", "engine, precision", "speakers")
    rows = [
        (curve.model, f"{curve.engine}, {curve.compute_type}", str(held))
        for curve, held in zip(curves, speakers, strict=True)
        if held is not None
    ]
    print_columns(f"Speakers on {device}, finals within {1000 * bar_s:.0f} ms (p95)", columns, rows)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("ctranslate2", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
