"""`sotto models`: find, fetch, check, load and describe models by the same rules as the service."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from serve_app.cli.console import complain, err, note, out, plain
from serve_app.cli.model_tables import page_of, table_of
from serve_app.cli.warming import load_and_warm
from serve_app.errors import SottoError
from serve_app.models.advice import explain
from serve_app.models.describe import ModelFacts, describe_model
from serve_app.models.export import export_model
from serve_app.models.registry import MODELS, find_spec
from serve_app.models.resolve import ResolvedModel, resolve_model
from serve_app.models.sums import expected_sums
from serve_app.models.verify import check_folder, check_sums
from serve_app.settings import Settings, SettingsError, load_settings


def list_models(as_json: bool = False) -> int:
    settings = _settings()
    if settings is None:
        return 2
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
        plain(table_of(rows))
    return 0


def describe_one(name: str, *, verify: bool = False, as_json: bool = False) -> int:
    settings = _settings()
    if settings is None:
        return 2
    facts = _describe(name, settings, verify=verify)
    if facts is None:
        complain(explain(name, None, ["this machine: no folder of that name"], offline=settings.offline))
        return 1
    used_for = _used_for(name, _names_of(settings))
    plain(json.dumps(_as_data(facts, used_for), indent=2) if as_json else page_of(facts, used_for))
    return 1 if any(file.matches is False or file.size_bytes == 0 for file in facts.files) else 0


def pull_models(names: Sequence[str] | None, into: Path | None = None) -> int:
    def pull(name: str, settings: Settings) -> str:
        model = _resolve(name, settings)
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
        model = _resolve(name, settings, offline=True)
        has_sums = _check(model, check_folder(model.path))
        return f"{_found(model)}: {'checksums match' if has_sums else 'files are whole'}"

    return _each(names, verify)


def warm_models(names: Sequence[str] | None) -> int:
    def warm(name: str, settings: Settings) -> str:
        model = _resolve(name, settings)
        started_s = time.perf_counter()
        info = load_and_warm(
            model.name, model.path, settings.device, settings.compute_type, engine=settings.engine
        )
        took_s = time.perf_counter() - started_s
        runs = f"{info.engine} on {info.device}, {info.compute_type}"
        return f"{_found(model)}, loaded with {runs} in {took_s:.1f} s"

    return _each(names, warm)


def _each(names: Sequence[str] | None, act: Callable[[str, Settings], str]) -> int:
    settings = _settings()
    if settings is None:
        return 2
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


def _settings() -> Settings | None:
    try:
        return load_settings()
    except SettingsError as error:
        complain(str(error))
        return None


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


def _resolve(name: str, settings: Settings, *, offline: bool | None = None) -> ResolvedModel:
    return resolve_model(
        name,
        model_dir=settings.model_dir,
        cache_dir=settings.cache_dir,
        offline=settings.offline if offline is None else offline,
        hf_token=settings.secret("hf_token"),
        hf_home=settings.hf_home,
    )


def _check(model: ResolvedModel, problems: Sequence[str] = ()) -> bool:
    """Raise `ValueError` for these problems and for sums that differ; whether any sum is known."""
    sums = expected_sums(model.path, model.source)
    problems = [*problems, *check_sums(model.path, sums)]
    if problems:
        raise ValueError(f"{model.path}: {'; '.join(problems)}")
    return bool(sums)


def _found(model: ResolvedModel) -> str:
    return f"{model.source} {model.path}"
