"""What is known of models, for a person: a table of all, a page of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from serve_app.models.describe import FileFacts, ModelFacts
from serve_app.models.figures import Precision, Published
from serve_app.models.places import ModelSource

_PLACES = {
    ModelSource.PACKAGE: "package",
    ModelSource.FOLDER: "folder",
    ModelSource.CACHE: "cache",
    ModelSource.HUB: "hub cache",
}


_HEADINGS = ("model", "parameters", "disk", "int8 / fp16 / fp32", "languages", "here", "used for")


def table_of(models: Sequence[tuple[ModelFacts, str]]) -> str:
    """One line a model, with what it is used for here; memory is that of the weights, in MB."""
    rows = [_HEADINGS, *(_row(facts, used_for) for facts, used_for in models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(facts: ModelFacts, used_for: str) -> tuple[str, ...]:
    return (
        facts.name,
        "-" if facts.num_parameters_m is None else f"{facts.num_parameters_m} M",
        _disk(facts),
        " / ".join(str(facts.memory[kind].weights_mb) for kind in facts.memory) or "-",
        languages_in_words(facts.languages),
        "-" if facts.source is None else _PLACES[facts.source],
        used_for,
    )


def page_of(facts: ModelFacts, used_for: str) -> str:
    """Everything about one model, a fact a line."""
    return "\n".join(f"{name + ':':<16}{value}" for name, value in _lines(facts, used_for) if value)


def languages_in_words(languages: tuple[str, ...]) -> str:
    return "English" if languages == ("en",) else f"{len(languages)}" if languages else "unknown"


def _lines(facts: ModelFacts, used_for: str) -> Iterator[tuple[str, str]]:
    yield "name", facts.name
    yield "other names", ", ".join(facts.other_names)
    yield "parameters", f"{facts.num_parameters:,}" if facts.num_parameters else ""
    yield "mels", str(facts.num_mels or "")
    yield "languages", _spoken(facts.languages)
    yield "licence", facts.licence or "not known"
    yield "used for", used_for
    yield "good for", facts.good_for
    yield "here", "no" if facts.source is None else f"{_PLACES[facts.source]}, {facts.path}"
    yield "packages", ", ".join(facts.distributions)
    yield "format", facts.format or ""
    yield "engines", ", ".join(facts.engines)
    yield "disk", _disk(facts)
    for kind in facts.memory:
        yield f"memory {kind}", _memory(facts, kind)
    yield "card", f"{facts.min_vram_gb:g} GB free or more (computed, float16)" if facts.min_vram_gb else ""
    yield "published", _published(facts.published) if facts.published else ""
    for file in facts.files:
        yield "file", _file(file)
    for problem in facts.problems:
        yield "problem", problem


def _spoken(languages: tuple[str, ...]) -> str:
    words = languages_in_words(languages)
    return words if len(languages) < 2 else f"{words}: {' '.join(languages)}"


def _disk(facts: ModelFacts) -> str:
    if facts.disk_mb is None:
        return "-"
    return f"{facts.disk_mb} MB" if facts.files else f"~{facts.disk_mb} MB"


def _memory(facts: ModelFacts, kind: Precision) -> str:
    memory = facts.memory[kind]
    weights = f"{memory.weights_mb} MB of weights (computed)"
    if memory.measured is None:
        return weights
    measured = memory.measured
    return f"{weights}; {measured.loaded_mb} MB loaded, {measured.decoding_mb} MB decoding (measured)"


def _published(published: Published) -> str:
    low, high = published.vram_mb or (0, 0)
    parts = (
        f"{published.relative_speed:g}x the speed of a large model" if published.relative_speed else "",
        f"{published.disk_mb} MB on disk" if published.disk_mb else "",
        f"{low} MB of VRAM" if low == high and low else f"{low}-{high} MB of VRAM" if low else "",
        f"{published.pytorch_vram_gb} GB of VRAM in PyTorch" if published.pytorch_vram_gb else "",
        f"{published.cpu_rtf:g} s a second on a CPU" if published.cpu_rtf else "",
        f"{published.gpu_rtf:g} s on a GPU" if published.gpu_rtf else "",
    )
    return ", ".join(part for part in parts if part)


def _file(file: FileFacts) -> str:
    line = f"{file.name}, {file.size_bytes:,} bytes"
    if file.actual_sha256 is not None:
        verdict = {True: "as expected", False: f"expected {file.expected_sha256}", None: "no sum known"}
        return f"{line}, sha256 {file.actual_sha256} ({verdict[file.matches]})"
    return f"{line}, expected sha256 {file.expected_sha256}" if file.expected_sha256 else line
