"""Where a model's files may be: which names and folders, the Hugging Face hub and its cache included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from serve_app.core.errors import ModelUnavailable
from serve_app.models.huggingface import is_huggingface
from serve_app.models.packages import is_installed
from serve_app.models.registry import ModelSpec, find_spec, known_names
from serve_app.models.report import ModelFormat

FILES = (
    "model.bin",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "vocabulary.*",
)
"""What a model folder may hold in either format; a repository's other formats are not fetched."""


def fetch_snapshot(repo: str, *, hf_home: Path | None, offline: bool, hf_token: str | None) -> Path:
    """The folder of a repository's newest snapshot; `offline` looks into the local cache alone.

    `hf_home` is the hub's own folder (None: where huggingface_hub keeps it). A download that was broken off
    goes on where it ended. Raises `ModelUnavailable`.
    """
    # Imported here, since most starts find their models without the hub and its HTTP client.
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, RevisionResolutionError, XetDownloadError

    try:
        return Path(
            snapshot_download(
                repo,
                allow_patterns=list(FILES),
                cache_dir=hf_home / "hub" if hf_home else None,
                local_files_only=offline,
                token=hf_token,
            )
        )
    except (
        OSError,
        ValueError,
        httpx.HTTPError,
        EntryNotFoundError,
        RevisionResolutionError,
        XetDownloadError,
    ) as error:
        if offline:
            raise ModelUnavailable(f"hub: offline, and {repo} is not in its cache") from error
        # The hub's messages run over many lines and name request ids; the first line says enough.
        reason = str(error).strip().splitlines() or [""]
        raise ModelUnavailable(f"hub: {repo}: {type(error).__name__}: {reason[0][:200]}") from error


def cached_snapshot(repo: str, *, hf_home: Path | None) -> Path | None:
    """The folder of a repository in the hub's cache, whole or not; asks no network and writes nothing."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repo, "config.json", cache_dir=hf_home / "hub" if hf_home else None)
    except (OSError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None


DEFAULT_CACHE_DIR = Path("~/.cache/sotto")
_MAX_NAME_CHARS = 200
_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?", re.ASCII)


class ModelSource(StrEnum):
    """Where a model's files were found."""

    FOLDER = "folder"
    CACHE = "cache"
    PACKAGE = "package"
    HUB = "hub"


@dataclass(frozen=True, slots=True)
class Place:
    """A model that is here, its files unchecked. `path` None: in packages, not yet joined into the cache."""

    source: ModelSource
    path: Path | None
    format: ModelFormat


def as_path(name: str) -> Path | None:
    """The name as a path, if it is one: absolute, from home, from here, or an existing folder below here."""
    path = Path(name)
    if "\0" in name:
        return None
    if path.is_absolute() or name.startswith((".", "~")):
        return _expanded(path)
    return path if "/" in name and is_folder(path) else None


def is_name(name: str) -> bool:
    """Whether this can be a model's name or a hub id; none that is leads out of a folder."""
    return len(name) <= _MAX_NAME_CHARS and _NAME.fullmatch(name) is not None and ".." not in name


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; False too for a path that no file system would take."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def given_folder(name: str, model_dir: Path | None) -> Path | None:
    """The folder that a name means by itself or in `model_dir`, of any kind of model; None without one."""
    folder = as_path(name)
    if folder is None and model_dir is not None and is_name(name):
        folder = _expanded(model_dir) / name
    return folder if folder is not None and is_folder(folder) else None


def folder_name(name: str) -> str:
    """A name as one folder's: a hub id's `/` written `--`."""
    return name.replace("/", "--")


def folder_names(name: str, spec: ModelSpec | None) -> Iterator[str]:
    """The names under which people keep a model, without doubles; the one asked for first."""
    names = [name, folder_name(name)]
    if spec is not None:
        names += [folder_name(known) for known in known_names(spec)]
    yield from dict.fromkeys(names)


def cache_folder(cache_dir: Path | None, name: str) -> Path:
    """Where a model out of packages is joined."""
    return _expanded(cache_dir or DEFAULT_CACHE_DIR) / "models" / folder_name(name)


def spec_of_folder(folder: Path) -> ModelSpec | None:
    """The model that a folder's own name means, or the name of the hub's folder that it is a snapshot in."""
    path = folder.absolute()
    name = path.parent.parent.name if path.parent.name == "snapshots" else path.name
    return find_spec(name.removeprefix("models--").replace("--", "/"))


def format_of(folder: Path) -> ModelFormat | None:
    """Which kind of model folder this is, by its weights; None where it has none."""
    if (folder / "model.bin").is_file():
        return ModelFormat.CTRANSLATE2
    return ModelFormat.HUGGINGFACE if is_huggingface(folder) else None


def find_here(
    name: str, *, model_dir: Path | None, cache_dir: Path | None, hf_home: Path | None
) -> Place | None:
    """Where a model lies on this machine, in the order in which it would be found; None where it does not."""
    given, spec = as_path(name), find_spec(name)
    if given is not None:
        return _place(ModelSource.FOLDER, given)
    if not is_name(name):
        return None
    if model_dir is not None:
        for folder in folder_names(name, spec):
            if (place := _place(ModelSource.FOLDER, _expanded(model_dir) / folder)) is not None:
                return place
    joined = _place(ModelSource.CACHE, cache_folder(cache_dir, spec.name if spec else name))
    if spec is not None and is_installed(spec):
        return Place(ModelSource.PACKAGE, joined.path if joined else None, ModelFormat.CTRANSLATE2)
    return joined or _in_hub_cache(name, spec, hf_home)


def _in_hub_cache(name: str, spec: ModelSpec | None, hf_home: Path | None) -> Place | None:
    repos = (spec.hub_repo, spec.transformers_repo) if spec else (name,)
    for repo in repos:
        snapshot = cached_snapshot(repo, hf_home=_expanded(hf_home) if hf_home else None) if repo else None
        if snapshot is not None and (place := _place(ModelSource.HUB, snapshot)) is not None:
            return place
    return None


def _place(source: ModelSource, folder: Path) -> Place | None:
    found = format_of(folder) if is_folder(folder) else None
    return None if found is None else Place(source, folder, found)


def _expanded(path: Path) -> Path:
    """With `~` as the home folder; as it is where there is no such home."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path
