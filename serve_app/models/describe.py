"""Everything that is known about one model, as data: for `sotto models info` and `list`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serve_app.models.footprint import MEASURED, Measured, Precision, Published
from serve_app.models.languages import codes_of
from serve_app.models.packages import sha256_of
from serve_app.models.places import ModelSource, Place, cache_folder, find_here, spec_of_folder
from serve_app.models.registry import ModelSpec, find_spec, known_names
from serve_app.models.report import FolderReport, ModelFormat
from serve_app.models.verify import expected_sums, inspect_folder, model_files

ENGINES = {
    ModelFormat.CTRANSLATE2: ("ctranslate2", "onnx", "torch", "mlx"),
    ModelFormat.HUGGINGFACE: ("onnx", "torch", "mlx"),
}
"""Which engines can read which format."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One precision's memory in MB: weights alone, computed, and what was measured where it was."""

    weights_mb: int
    measured: Measured | None


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file; `actual_sha256` only where the contents were read."""

    name: str
    size_bytes: int
    expected_sha256: str | None
    actual_sha256: str | None = None

    @property
    def matches(self) -> bool | None:
        """None where one of the two sums is not known."""
        if self.expected_sha256 is None or self.actual_sha256 is None:
            return None
        return self.expected_sha256 == self.actual_sha256


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model. `path`, `format` and `engines` are empty where it is not here; `disk_mb` is then an
    estimate (float16 weights). `problems`: what is wrong with its files.
    """

    name: str
    other_names: tuple[str, ...]
    num_parameters: int | None
    num_parameters_m: int | None
    num_mels: int | None
    languages: tuple[str, ...]
    licence: str | None
    good_for: str
    source: ModelSource | None
    path: str | None
    format: ModelFormat | None
    engines: tuple[str, ...]
    distributions: tuple[str, ...]
    disk_mb: int | None
    memory: dict[Precision, Memory]
    min_vram_gb: float | None
    published: Published | None
    files: tuple[FileFacts, ...]
    problems: tuple[str, ...]


def describe_model(
    name: str,
    *,
    model_dir: Path | None = None,
    cache_dir: Path | None = None,
    hf_home: Path | None = None,
    verify: bool = False,
) -> ModelFacts | None:
    """What is known of a model by its name or folder; `verify` reads all of its files. None for one that is
    neither known nor here. Asks no network and writes nothing.
    """
    place = find_here(name, model_dir=model_dir, cache_dir=cache_dir, hf_home=hf_home)
    spec = find_spec(name) or (spec_of_folder(place.path) if place and place.path else None)
    if spec is None and place is None:
        return None
    report = inspect_folder(place.path) if place and place.path else None
    files = _files(place, spec, verify=verify)
    shape = spec.architecture if spec else None
    return ModelFacts(
        name=spec.name if spec else _own_name(name, place),
        other_names=known_names(spec)[1:] if spec else (),
        num_parameters=shape.num_parameters if shape else None,
        num_parameters_m=spec.num_parameters_m if spec else None,
        num_mels=report.num_mels if report else spec.num_mels if spec else None,
        languages=_languages(spec, report),
        licence=spec.licence if spec else None,
        good_for=spec.good_for if spec else "",
        source=place.source if place else None,
        path=str(place.path or cache_folder(cache_dir, spec.name if spec else name)) if place else None,
        format=place.format if place else None,
        engines=ENGINES[place.format] if place else (),
        distributions=spec.distributions if spec else (),
        disk_mb=_disk_mb(files, spec),
        memory=_memory(spec),
        min_vram_gb=shape.min_vram_gb if shape else None,
        published=spec.published if spec else None,
        files=files,
        problems=tuple(map(str, report.problems)) if report else (),
    )


def _own_name(name: str, place: Place | None) -> str:
    return place.path.resolve().name if place and place.path and ("/" in name or name == ".") else name


def _languages(spec: ModelSpec | None, report: FolderReport | None) -> tuple[str, ...]:
    num_languages = spec.num_languages if spec else report.num_languages if report else 0
    return codes_of(num_languages)


def _memory(spec: ModelSpec | None) -> dict[Precision, Memory]:
    if spec is None or spec.architecture is None:
        return {}
    shape = spec.architecture
    return {kind: Memory(shape.weights_mb(kind), MEASURED.get((spec.name, kind))) for kind in Precision}


def _files(place: Place | None, spec: ModelSpec | None, *, verify: bool) -> tuple[FileFacts, ...]:
    """Those that are here, and those that should be; of packages not yet joined, those that will be."""
    if place is None:
        return ()
    if place.path is None:
        packaged = spec.packaged_files if spec else ()
        return tuple(FileFacts(file.name, file.size_bytes, file.sha256) for file in packaged)
    sums = expected_sums(place.path, place.source)
    found = {file.name: file for file in model_files(place.path)}
    missing = [FileFacts(name, 0, digest) for name, digest in sums.items() if name not in found]
    facts = [
        FileFacts(name, file.stat().st_size, sums.get(name), sha256_of(file) if verify else None)
        for name, file in found.items()
    ]
    return (*facts, *missing)


def _disk_mb(files: tuple[FileFacts, ...], spec: ModelSpec | None) -> int | None:
    if files:
        return round(sum(file.size_bytes for file in files) / 1e6)
    if spec is None or spec.architecture is None:
        return None
    return spec.architecture.weights_mb(Precision.FLOAT16)
