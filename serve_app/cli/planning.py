"""`sotto plan`: what a number of speakers needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serve_app.capacity.plan import HOURS_PER_MONTH, Plan, PlanRequest, Speaking, plan
from serve_app.capacity.throughput import MeasuredCards, Origin
from serve_app.cli.console import complain, out, plain, table


def show_plan(
    model: str | None, gpu: str, speech_share: float, figures: Path | None, as_json: bool, **given: Any
) -> int:
    """Print the plan; 2 where nothing is known of the model or the device, 1 where the bar is not met.

    `given` are further fields of the `PlanRequest`.
    """
    try:
        measured = MeasuredCards.read(figures) if figures is not None else None
        speaking = Speaking(speech_share=speech_share)
        answer = plan(
            PlanRequest(model=model or _usual_model(gpu), gpu=gpu, speaking=speaking, **given), measured
        )
    except (ValueError, OSError) as error:
        complain(str(error))
        return 2
    if as_json:
        plain(json.dumps(answer.to_json(), indent=2))
    else:
        table(_rows(answer))
        for source in answer.sources:
            out.print(f"  {source}", style="dim", markup=False)
        if answer.origin is Origin.ESTIMATED:
            out.print(
                "  An estimate: no GPU figures were given (--figures FILE of benchmarks.gpu).", style="yellow"
            )
    return 0 if answer.within_bar else 1


def show_here(model: str | None, as_json: bool) -> int:
    """Print how many may talk at once on this machine; 2 where its models cannot be loaded."""
    from serve_app.cli.here import speakers_here
    from serve_app.core.errors import SottoError
    from serve_app.settings import SettingsError, load_settings

    try:
        found = speakers_here(load_settings(flags={} if model is None else {"model": model}))
    except (SottoError, SettingsError) as error:
        complain(str(error))
        return 2
    if as_json:
        plain(json.dumps(found.to_json(), indent=2))
    else:
        out.print(f"speakers: {found.text}", markup=False)
    return 0


def _usual_model(gpu: str) -> str:
    return "tiny.en" if gpu.strip().lower() == "cpu" else "large-v3-turbo"


def _rows(answer: Plan) -> list[tuple[str, str]]:
    plural = "s" if answer.units > 1 else ""
    rows = [
        ("speakers", f"{answer.speakers} ({answer.speakers_per_unit:g} per {answer.unit})"),
        ("models", f"finals {answer.model}, interims {answer.interim_model}"),
        (answer.device, f"{answer.units} {answer.unit}{plural} ({answer.origin.value})"),
        ("replicas", ", ".join(f"{name} {number}" for name, number in answer.replicas.items())),
    ]
    if answer.fractions:
        shares = ", ".join(f"{name} {share:g}" for name, share in answer.fractions.items())
        rows.append(("share of a GPU", shares))
        rows.append(("busy, memory per GPU", f"{answer.busy_share:.0%}, {answer.memory_gb_per_unit} GB"))
    bar = "" if answer.within_bar else ", which is too late"
    rows.append(("final latency, p95", f"{answer.expected_p95_ms:.0f} ms{bar}"))
    if answer.price_per_hour is not None:
        month = f"{answer.price_per_month:,.0f} a month of {HOURS_PER_MONTH} hours"
        rows.append(("price", f"{answer.price_per_hour:.2f} an hour, {month}"))
        rows.append(("per speaker and hour", f"{answer.price_per_speaker_hour:.4f}"))
    return rows
