"""What decoding costs on which device, and where each figure is from: measured here, or estimated.

    busy = fixed_s + per_longest * longest item + per_audio * all items together

Launching and the decoder's steps are paid once a batch (they follow its longest item); arithmetic is paid for
every second in it. On a CPU, where work is not shared, only the last part is large.

Measured figures win. A GPU has estimates until it has been measured (`python -m benchmarks.gpu --json FILE`,
then `sotto plan --figures FILE`). An estimate starts from two published runs of CTranslate2's Whisper:

- 13 minutes of audio, beam 5, one window after another, RTX 2080 Ti, float16: large-v3 52.0 s,
  large-v3-turbo 19.2 s, distil-large-v3 26.1 s (SYSTRAN/faster-whisper, issue 1030); other models by OpenAI's
  relative speeds;
- the same 13 minutes with large-v2 on an RTX 3070 Ti: 63 s alone, 17 s in batches of 8 (its README), which
  says what share of a batch's time is paid once (0.83) and what share for every item (0.17).

The first share is scaled by the square root of the memory bandwidth (small steps leave a large card idle),
the second by the arithmetic, and both are doubled (`ESTIMATE_MARGIN`): live windows are not long batches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.models.footprint import PUBLISHED, Published

MIN_SAMPLES = 8
_LEAST_S = 1e-4


@dataclass(frozen=True, slots=True)
class DecodeSample:
    """One batch that was timed: its items' seconds of audio and the seconds it took."""

    audio_s: tuple[float, ...]
    busy_s: float


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Seconds; `spread` is what batches took over what this says: ratios, of mean 1, equally likely."""

    fixed_s: float
    per_longest: float = 0.0
    per_audio: float = 0.0
    spread: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        parts = (self.fixed_s, self.per_longest, self.per_audio, *self.spread)
        if not self.spread or not all(math.isfinite(part) and part >= 0 for part in parts):
            raise ValueError("costs and their spread must be finite and not negative")

    def mean_s(self, audio_s: Sequence[float]) -> float:
        """The mean time of a batch of these items."""
        return max(_LEAST_S, self.fixed_s + self.per_longest * max(audio_s) + self.per_audio * sum(audio_s))

    def scaled(self, factor: float) -> DecodeCost:
        """The same work on something `factor` times slower."""
        return DecodeCost(
            self.fixed_s * factor, self.per_longest * factor, self.per_audio * factor, self.spread
        )

    @classmethod
    def fitted(cls, samples: Iterable[DecodeSample]) -> DecodeCost:
        """The cost that fits best (least squares, no part below 0), with what is left over as the spread.

        Without batches of several items the longest and the sum are the same; then the sum gets it all.
        Raises `ValueError` for fewer than `MIN_SAMPLES`, or samples that are no times.
        """
        known = list(samples)
        if len(known) < MIN_SAMPLES:
            raise ValueError(f"a decode cost needs {MIN_SAMPLES} timed batches, got {len(known)}")
        if any(not s.audio_s or min(s.audio_s) <= 0 or s.busy_s <= 0 for s in known):
            raise ValueError("timed batches need audio and time")
        rows = np.array([[1.0, max(s.audio_s), sum(s.audio_s)] for s in known])
        times = np.array([s.busy_s for s in known])
        parts = _not_negative(rows, times, batched=any(len(s.audio_s) > 1 for s in known))
        cost = cls(*parts)
        ratios = np.array([s.busy_s / cost.mean_s(s.audio_s) for s in known])
        ratios /= ratios.mean()
        return cls(*parts, spread=tuple(float(ratio) for ratio in ratios))


def _not_negative(rows: np.ndarray, times: np.ndarray, *, batched: bool) -> tuple[float, float, float]:
    """Least squares over the columns that help: those that would come out negative are left out in turn."""
    used = [0, 1, 2] if batched else [0, 2]
    while True:
        solution = np.linalg.lstsq(rows[:, used], times, rcond=None)[0]
        if len(used) == 1 or solution.min() >= 0:
            break
        used.pop(int(np.argmin(solution)))
    parts = [0.0, 0.0, 0.0]
    for column, value in zip(used, solution, strict=True):
        parts[column] = max(0.0, float(value))
    return parts[0], parts[1], parts[2]


MAX_FILE_BYTES = 16 * 1024 * 1024
ESTIMATE_MARGIN = 2.0
LAUNCH_S = 0.01
"""Paid once a batch: preprocessing, launching, the answer."""

_REFERENCE = "RTX 2080 Ti"
_RUN_S = 780.0
_RUNS_S = {"large-v3": 52.023, "large-v3-turbo": 19.155, "distil-large-v3": 26.126}
_SHARED = 0.83


class Origin(StrEnum):
    """How a figure came about."""

    MEASURED = "measured"
    ESTIMATED = "estimated"


class UnknownFigure(ValueError):
    """Nothing is known of this model or device; the message lists what is."""


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its data sheet: memory in GB, bandwidth in GB/s, dense float16 tensor TFLOPS."""

    name: str
    memory_gb: float
    bandwidth: float
    tflops: float


CARDS = (
    Card("RTX 2080 Ti", 11, 616, 108),
    Card("T4", 16, 320, 65),
    Card("L4", 24, 300, 121),
    Card("A10G", 24, 600, 70),
    Card("RTX 3090", 24, 936, 142),
    Card("RTX 4090", 24, 1008, 330),
    Card("L40S", 48, 864, 362),
    Card("A100", 80, 2039, 312),
    Card("H100", 80, 3350, 989),
    Card("H200", 141, 4800, 989),
)


@dataclass(frozen=True, slots=True)
class CardCost:
    """What one model costs on one card."""

    cost: DecodeCost
    origin: Origin
    source: str


@dataclass(frozen=True, slots=True)
class SessionsPoint:
    """A measured load: live speakers at once and the latency of finals, ms."""

    sessions: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class MachineFigures:
    """A CPU-only machine, everything on it, and what it held with a model for finals."""

    cores: int
    points: tuple[SessionsPoint, ...]
    source: str


_TWO_CORES = "two shared cores (AMD EPYC), clients on them too; benchmarks.live.sessions, 2026-11-21"

CPU_MACHINES: dict[str, MachineFigures] = {
    "tiny.en": MachineFigures(
        2,
        (
            SessionsPoint(24, 47, 105, 288),
            SessionsPoint(32, 51, 208, 421),
            SessionsPoint(40, 62, 344, 507),
            SessionsPoint(48, 81, 492, 792),
        ),
        _TWO_CORES,
    ),
    "base": MachineFigures(2, (SessionsPoint(8, 51, 232, 529),), _TWO_CORES),
}


@dataclass(frozen=True, slots=True)
class MeasuredCards:
    """The batches that were timed on one card, as a cost per model."""

    device: str = ""
    costs: Mapping[str, DecodeCost] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def read(cls, path: Path) -> MeasuredCards:
        """A file of `{"device": "NVIDIA H200", "rows": [{"model", "batch", "audio_s", "busy_s"}, ...]}`: a
        batch of items of `audio_s` each took `busy_s`. Raises `OSError`, and `ValueError` that says what is
        wrong."""
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            device, rows = str(fields["device"]), list(fields["rows"])
            samples: dict[str, list[DecodeSample]] = {}
            for row in rows:
                samples.setdefault(str(row["model"]), []).append(_sample(row))
            costs = {model: DecodeCost.fitted(timed) for model, timed in samples.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no measured batches: {type(error).__name__}: {error}") from None
        return cls(device, costs, f"{path.name}, {device}")


def find_card(name: str) -> Card:
    """By its name in any spelling, `nvidia-h200` or `NVIDIA H200 141GB`. Raises `UnknownFigure`."""
    wanted = _plain(name)
    found = [card for card in CARDS if _plain(card.name) in wanted]
    if not found:
        known = ", ".join(card.name for card in CARDS)
        raise UnknownFigure(f"nothing is known of the GPU {name!r}; known are {known}, and `cpu`")
    return max(found, key=lambda card: len(card.name))


def card_cost(model: str, card: Card, measured: MeasuredCards | None = None) -> CardCost:
    """Measured where there is a measurement of this card, else estimated. Raises `UnknownFigure`."""
    if measured is not None and model in measured.costs and _plain(card.name) in _plain(measured.device):
        return CardCost(measured.costs[model], Origin.MEASURED, measured.source)
    per_window_s = _reference_run_s(model) / _RUN_S
    reference = find_card(_REFERENCE)
    steps = _SHARED * per_window_s * (reference.bandwidth / card.bandwidth) ** 0.5
    arithmetic = (1 - _SHARED) * per_window_s * reference.tflops / card.tflops
    cost = DecodeCost(LAUNCH_S, steps, arithmetic).scaled(ESTIMATE_MARGIN)
    return CardCost(cost, Origin.ESTIMATED, "published runs, scaled by the data sheet and doubled")


def known_models() -> tuple[str, ...]:
    """Models that can be planned on a GPU."""
    return tuple(name for name, figures in PUBLISHED.items() if name in _RUNS_S or _is_openai(name, figures))


def cpu_machine(model: str) -> MachineFigures:
    """Raises `UnknownFigure` for a model that has not been measured on a CPU."""
    if model not in CPU_MACHINES:
        raise UnknownFigure(
            f"{model!r} has not been measured on a CPU; measured are {', '.join(CPU_MACHINES)} "
            "(`python -m benchmarks.live.sessions --model NAME` measures another)"
        )
    return CPU_MACHINES[model]


def _reference_run_s(model: str) -> float:
    if model in _RUNS_S:
        return _RUNS_S[model]
    if model not in known_models():
        raise UnknownFigure(f"nothing is known of the model {model!r}; known are {', '.join(known_models())}")
    speed = PUBLISHED[model].relative_speed
    assert speed is not None
    return _RUNS_S["large-v3"] / speed


def _is_openai(name: str, figures: Published) -> bool:
    """Only OpenAI's own speeds are relative to OpenAI's large model."""
    return figures.relative_speed is not None and not name.startswith("distil")


def _sample(row: Mapping[str, Any]) -> DecodeSample:
    batch = int(row["batch"])
    if not 1 <= batch <= 1024:
        raise ValueError(f"a batch of {batch}")
    return DecodeSample((float(row["audio_s"]),) * batch, float(row["busy_s"]))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
