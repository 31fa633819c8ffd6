"""`sotto models`: find, fetch, check and load models by the same rules as the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from serve_app.cli.console import complain, note, out
from serve_app.errors import SottoError
from serve_app.models.packages import is_installed
from serve_app.models.registry import MODELS, find_spec
from serve_app.models.resolve import ResolvedModel, resolve_model
from serve_app.models.verify import check_folder, check_sums
from serve_app.settings import Settings, SettingsError, load_settings


def list_models() -> int:
    settings = _settings()
    if settings is None:
        return 2
    used = _names_of(settings)
    table = Table("model", "parameters", "languages", "here as", "used for")
    for spec in MODELS:
        roles = ", ".join(role for role, name in used.items() if find_spec(name) is spec)
        table.add_row(
            spec.name,
            f"{spec.num_parameters_m} M",
            "English" if spec.english_only else f"{spec.num_languages}",
            _whereabouts(spec.name, settings),
            roles,
        )
    out.print(table)
    return 0


def pull_models(names: Sequence[str] | None) -> int:
    return _each(names, lambda name, settings: _found(_resolve(name, settings)))


def verify_models(names: Sequence[str] | None) -> int:
    def verify(name: str, settings: Settings) -> str:
        model = _resolve(name, settings, offline=True)
        spec = find_spec(name)
        problems = check_folder(model.path) + (check_sums(model.path, spec.sums) if spec else [])
        if problems:
            raise ValueError(f"{model.path}: {'; '.join(problems)}")
        known = "checksums match" if spec is not None and spec.sums else "files are whole"
        return f"{_found(model)}: {known}"

    return _each(names, verify)


def warm_models(names: Sequence[str] | None) -> int:
    def warm(name: str, settings: Settings) -> str:
        import ctranslate2

        model = _resolve(name, settings)
        started = time.perf_counter()
        device = (
            "cuda" if settings.device in ("auto", "cuda") and ctranslate2.get_cuda_device_count() else "cpu"
        )
        ctranslate2.models.Whisper(str(model.path), device=device, compute_type="default")
        return f"{_found(model)}, loaded on {device} in {time.perf_counter() - started:.1f} s"

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


def _resolve(name: str, settings: Settings, *, offline: bool | None = None) -> ResolvedModel:
    return resolve_model(
        name,
        model_dir=settings.model_dir,
        cache_dir=settings.cache_dir,
        offline=settings.offline if offline is None else offline,
        hf_token=settings.secret("hf_token"),
        hf_home=settings.hf_home,
    )


def _found(model: ResolvedModel) -> str:
    return f"{model.source} {model.path}"


def _whereabouts(name: str, settings: Settings) -> str:
    spec = find_spec(name)
    if spec is not None and spec.packaged_files and is_installed(spec):
        return "package"
    for folder in (settings.model_dir, (settings.cache_dir or Path("~/.cache/sotto")) / "models"):
        if folder is not None and (folder.expanduser() / name / "model.bin").is_file():
            return "folder"
    return "-"
