"""`sotto models`: find, fetch, check, load and describe models by the same rules as the service."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from serve_app.assembly.models import find_model
from serve_app.cli.console import complain, err, fail, note, out, plain, table
from serve_app.core.errors import SottoError
from serve_app.core.jobs import ModelInfo
from serve_app.models.describe import FileFacts, ModelFacts, describe_model
from serve_app.models.export import export_model
from serve_app.models.footprint import Precision, Published
from serve_app.models.places import ModelSource
from serve_app.models.registry import MODELS, find_spec
from serve_app.models.resolve import ResolvedModel, explain
from serve_app.models.verify import check_folder, check_sums, expected_sums
from serve_app.settings import Settings, SettingsError, load_settings


def list_models(as_json: bool = False) -> int:
    settings = _settings()
    used = _names_of(settings)
    own = [name for name in dict.fromkeys(used.values()) if find_spec(name) is None]
    rows = []
    for name in (*(spec.name for spec in MODELS), *own):
        facts = _describe(name, settings)
        if facts is not None:
            rows.append((facts, _used_for(name, used)))
    if as_json:
        plain(json.dumps([_as_data(facts, used_for) for facts, used_for in rows], indent=2))
    else:
        table([_HEADINGS, *(_row(facts, used_for) for facts, used_for in rows)])
    return 0


def describe_one(name: str, *, verify: bool = False, as_json: bool = False) -> int:
    settings = _settings()
    facts = _describe(name, settings, verify=verify)
    if facts is None:
        complain(explain(name, None, ["this machine: no folder of that name"], offline=settings.offline))
        return 1
    used_for = _used_for(name, _names_of(settings))
    plain(json.dumps(_as_data(facts, used_for), indent=2) if as_json else page_of(facts, used_for))
    return 1 if any(file.matches is False or file.size_bytes == 0 for file in facts.files) else 0


def pull_models(names: Sequence[str] | None, into: Path | None = None) -> int:
    def pull(name: str, settings: Settings) -> str:
        model = find_model(name, settings)
        if into is None:
            _check(model)
            return _found(model)
        with _copying() as progress:
            tasks: dict[str, TaskID] = {}

            def show(file: str, num_bytes: int, size_bytes: int) -> None:
                if file not in tasks:
                    tasks[file] = progress.add_task(file, total=size_bytes)
                progress.update(tasks[file], completed=num_bytes)

            folder = export_model(model, into.expanduser(), show)
        return f"{folder}: copy {into} to the other machine and set STT_MODEL_DIR to it there"

    return _each(names, pull)


def verify_models(names: Sequence[str] | None) -> int:
    def verify(name: str, settings: Settings) -> str:
        model = find_model(name, settings, offline=True)
        has_sums = _check(model, check_folder(model.path))
        return f"{_found(model)}: {'checksums match' if has_sums else 'files are whole'}"

    return _each(names, verify)


def warm_models(names: Sequence[str] | None) -> int:
    def warm(name: str, settings: Settings) -> str:
        model = find_model(name, settings)
        started_s = time.perf_counter()
        info = load_and_warm(model.name, model.path, settings)
        took_s = time.perf_counter() - started_s
        runs = f"{info.engine} on {info.device}, {info.compute_type}"
        return f"{_found(model)}, loaded with {runs} in {took_s:.1f} s"

    return _each(names, warm)


def _each(names: Sequence[str] | None, act: Callable[[str, Settings], str]) -> int:
    settings = _settings()
    num_failed = 0
    for name in names or dict.fromkeys(_names_of(settings).values()):
        note(f"{name} ...")
        try:
            out.print(f"{name}: {act(name, settings)}", markup=False)
        except (SottoError, OSError, ValueError, RuntimeError) as error:
            num_failed += 1
            complain(f"{name}: {error}")
    return 1 if num_failed else 0


def _copying() -> Progress:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        fail(str(error))


def _names_of(settings: Settings) -> dict[str, str]:
    return {
        "interims": settings.interim_model_name,
        "finals": settings.final_model_name,
        "recordings": settings.offline_model_name,
    }


def _used_for(name: str, used: dict[str, str]) -> str:
    spec = find_spec(name)
    return ", ".join(
        role for role, wanted in used.items() if wanted == name or (spec and find_spec(wanted) is spec)
    )


def _describe(name: str, settings: Settings, *, verify: bool = False) -> ModelFacts | None:
    return describe_model(
        name,
        model_dir=settings.model_dir,
        cache_dir=settings.cache_dir,
        hf_home=settings.hf_home,
        verify=verify,
    )


def _as_data(facts: ModelFacts, used_for: str) -> dict[str, object]:
    return {**dataclasses.asdict(facts), "used_for": [role for role in used_for.split(", ") if role]}


def _check(model: ResolvedModel, problems: Sequence[str] = ()) -> bool:
    """Raise `ValueError` for these problems and for sums that differ; whether any sum is known."""
    sums = expected_sums(model.path, model.source)
    problems = [*problems, *check_sums(model.path, sums)]
    if problems:
        raise ValueError(f"{model.path}: {'; '.join(problems)}")
    return bool(sums)


def _found(model: ResolvedModel) -> str:
    return f"{model.source} {model.path}"


def load_and_warm(name: str, path: Path, settings: Settings) -> ModelInfo:
    """Load the model of a folder with the service's own engine and decode once. Blocking: seconds.

    What it says is what runs: engine, device and precision as they were chosen. Raises `ModelUnavailable`.
    """
    # Imported here: engines take a second and a tenth of a gigabyte, which `list` need not pay.
    from serve_app.asr.config import HostedModel, RecogniserConfig, build_recogniser
    from serve_app.core.jobs import Role

    config = RecogniserConfig(
        models={Role.FINAL: HostedModel(name, path)},
        engine=settings.engine,
        device=settings.device,
        compute_type=settings.compute_type,
        cache_dir=settings.cache_dir,
    )
    (info,) = build_recogniser(config).models()
    return info


_PLACES = {
    ModelSource.PACKAGE: "package",
    ModelSource.FOLDER: "folder",
    ModelSource.CACHE: "cache",
    ModelSource.HUB: "hub cache",
}


_HEADINGS = ("model", "parameters", "disk", "int8 / fp16 / fp32", "languages", "here", "used for")


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
