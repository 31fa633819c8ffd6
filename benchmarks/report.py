"""What the benchmark commands share: arguments and errors; results as a table, as JSON and as a picture."""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec

from rich.console import Console
from rich.table import Table

WIDE_COLUMNS = 120

P = ParamSpec("P")


def command_line(name: str, doc: str | None, *, with_json: bool = True) -> argparse.ArgumentParser:
    """A parser, described by the first paragraph of the module's docstring, with `--json` for the result."""
    parser = argparse.ArgumentParser(prog=name, description=(doc or "").split("\n\n")[0])
    if with_json:
        parser.add_argument("--json", type=Path, help="write the result to this file")
    return parser


def command(*failures: type[Exception], status: int = 2) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """A benchmark's `main`: of these errors it prints the message, and exits with `status`."""

    def wrap(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def run(*args: P.args, **kwargs: P.kwargs) -> int:
            try:
                return main(*args, **kwargs)
            except failures as error:
                print(f"error: {error}", file=sys.stderr)
                return status

        return run

    return wrap


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table)


def print_columns(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first two columns are text, the others numbers; not squeezed where the output is no terminal."""
    table = Table(title=title, title_justify="left")
    for index, name in enumerate(columns):
        table.add_column(name, style="cyan" if index == 0 else None, justify="left" if index < 2 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=WIDE_COLUMNS)).print(table)


def write_json(path: Path | None, result: Mapping[str, Any]) -> None:
    """Nothing without a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


@contextmanager
def panels(path: Path, title: str, num_panels: int) -> Iterator[Any]:
    """Yields matplotlib's axes side by side; what is drawn on them is written to `path`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, num_panels, figsize=(5 * num_panels, 4.5), layout="constrained")
    for each in axes:
        each.grid(alpha=0.3)
    yield axes
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def plot_latencies_and_cpu(
    path: Path, title: str, latencies_ms: Mapping[str, Sequence[float]], cores: Mapping[str, float]
) -> None:
    """Two panels: how many results came within which time, and cores used by kind of process."""
    with panels(path, title, 2) as (left, right):
        for name, values in latencies_ms.items():
            shares = [(index + 1) / len(values) for index in range(len(values))]
            left.step(sorted(values), shares, where="post", label=f"{name} ({len(values)})")
        left.set(xlabel="milliseconds", ylabel="share that came within", ylim=(0, 1), title="Latency")
        left.set_xlim(left=0)
        if latencies_ms:
            left.legend(loc="lower right")
        ranked = sorted(cores.items(), key=lambda item: item[1])
        right.barh([name for name, _ in ranked], [value for _, value in ranked])
        right.set(xlabel="cores", title="CPU by process")


def plot_policies(path: Path, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Three panels over the policies: word errors, latencies (medians, with lines up to the 95th percentile)
    and CPU. Policies without figures are left out."""
    measured = [row for row in rows if row["num_clips"]]
    names = [row["policy"] for row in measured]
    kinds = (("first_word_ms", "first word"), ("commit_lag_ms", "word committed"), ("final_ms", "final"))
    with panels(path, title, 3) as (left, middle, right):
        left.bar(names, [100 * row["wer"] for row in measured])
        left.set(ylabel="per cent", title="Word error rate")
        for offset, (key, label) in enumerate(kinds):
            known = [
                (place, row[key]) for place, row in enumerate(measured) if row[key]["median"] is not None
            ]
            places = [place + 0.27 * (offset - 1) for place, _ in known]
            medians = [value["median"] for _, value in known]
            above = [value["p95"] - value["median"] for _, value in known]
            middle.bar(places, medians, width=0.27, yerr=([0.0] * len(above), above), capsize=3, label=label)
        middle.set(ylabel="milliseconds", title="Latency: median, 95th percentile")
        middle.set_xticks(range(len(names)), names)
        if measured:
            middle.legend()
        right.bar(names, [row["rtf"] or 0.0 for row in measured])
        right.set(ylabel="CPU seconds per second of audio", title="Real-time factor")
