"""Results as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def plot_latencies_and_cpu(
    path: Path,
    title: str,
    latencies_ms: Mapping[str, Sequence[float]],
    cores: Mapping[str, float],
) -> None:
    """Two panels: how many results came within which time, and cores used by kind of process."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name, values in latencies_ms.items():
        ordered = sorted(values)
        shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
        left.step(ordered, shares, where="post", label=f"{name} ({len(ordered)})")
    left.set(xlabel="milliseconds", ylabel="share that came within", ylim=(0, 1), title="Latency")
    left.set_xlim(left=0)
    left.grid(alpha=0.3)
    if latencies_ms:
        left.legend(loc="lower right")
    ranked = sorted(cores.items(), key=lambda item: item[1])
    right.barh([name for name, _ in ranked], [value for _, value in ranked])
    right.set(xlabel="cores", title="CPU by process")
    right.grid(alpha=0.3, axis="x")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
