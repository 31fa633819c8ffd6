"""Folders to be copied to a machine without a network: whole, checked, and never half there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fakes.huggingface_folder import write_huggingface
from fakes.whisper_folder import install_split_model, write_model
from serve_app.core.errors import ModelUnavailable
from serve_app.models import ModelSource, registry, resolve_model
from serve_app.models.export import export_model
from serve_app.models.verify import SUMS_NAME, check_folder, check_sums, expected_sums, read_sums


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_model(tmp_path / "source" / "small")
    (folder / "README.md").write_text("not a part of the model")
    return folder


def export(source: Path, into: Path) -> Path:
    return export_model(resolve_model(str(source)), into)


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("write", [write_model, write_huggingface])
def test_what_is_exported_is_found_offline(tmp_path: Path, write: object) -> None:
    source = write(tmp_path / "source" / "small")  # type: ignore[operator]
    folder = export(source, tmp_path / "out")
    model = resolve_model("small", model_dir=tmp_path / "out", cache_dir=tmp_path / "cache", offline=True)
    assert model.path == folder == tmp_path / "out" / "small"
    sums = expected_sums(folder, ModelSource.FOLDER)
    assert set(sums) == names_in(source)
    assert check_sums(folder, sums) == check_folder(folder) == []


def test_only_the_models_files_are_copied(source: Path, tmp_path: Path) -> None:
    folder = export(source, tmp_path / "out")
    assert names_in(folder) == {"model.bin", "config.json", "tokenizer.json", "vocabulary.json", SUMS_NAME}
    assert names_in(tmp_path / "out") == {"small"}


def test_links_become_files(source: Path, tmp_path: Path) -> None:
    """The hub's cache is made of links into a folder of its own."""
    blob = tmp_path / "blob"
    (source / "model.bin").rename(blob)
    (source / "model.bin").symlink_to(blob)
    folder = export(source, tmp_path / "out")
    blob.unlink()
    assert not (folder / "model.bin").is_symlink()
    assert check_folder(folder) == []


def test_again_copies_nothing(source: Path, tmp_path: Path) -> None:
    folder = export(source, tmp_path / "out")
    before = (folder / "model.bin").stat().st_mtime_ns
    assert export(source, tmp_path / "out") == folder
    assert (folder / "model.bin").stat().st_mtime_ns == before


def test_a_damaged_export_is_made_again(source: Path, tmp_path: Path) -> None:
    folder = export(source, tmp_path / "out")
    data = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(data[:-1] + b"?")
    export(source, tmp_path / "out")
    assert (folder / "model.bin").read_bytes() == data


def test_a_broken_off_export_goes_on(source: Path, tmp_path: Path) -> None:
    partial = tmp_path / "out" / ".small.partial"
    partial.mkdir(parents=True)
    shutil.copy(source / "model.bin", partial)
    (partial / "tokenizer.json.part").write_bytes(b"half")
    (partial / "left.over").write_bytes(b"")
    seen: list[tuple[str, int, int]] = []
    folder = export_model(
        resolve_model(str(source)), tmp_path / "out", lambda *progress: seen.append(progress)
    )
    size_bytes = (source / "model.bin").stat().st_size
    assert [line for line in seen if line[0] == "model.bin"] == [("model.bin", size_bytes, size_bytes)]
    assert "left.over" not in names_in(folder)
    assert check_sums(folder, read_sums(folder)) == []


def test_what_was_kept_of_other_weights_is_noticed(source: Path, tmp_path: Path) -> None:
    partial = tmp_path / "out" / ".small.partial"
    partial.mkdir(parents=True)
    (partial / "model.bin").write_bytes(bytes((source / "model.bin").stat().st_size))
    with pytest.raises(ModelUnavailable, match=r"model\.bin does not match.*pull it again"):
        export(source, tmp_path / "out")
    assert check_folder(export(source, tmp_path / "out")) == []


def test_a_folder_of_somebody_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    precious = tmp_path / "out" / "small" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    with pytest.raises(ModelUnavailable, match="exists and holds something else"):
        export(source, tmp_path / "out")
    assert precious.read_text() == "years of work"


def test_onto_itself(source: Path) -> None:
    assert export(source, source.parent) == source
    assert SUMS_NAME not in names_in(source)


def test_where_nothing_can_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ModelUnavailable, match="cannot write small into"):
        export(source, tmp_path / "out")


def test_packaged_models_are_checked_against_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    spec = install_split_model(site)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setitem(registry._BY_NAME, "fake-split", spec)
    model = resolve_model("fake-split", cache_dir=tmp_path / "cache")
    assert expected_sums(model.path, model.source) == spec.sums
    (model.path / "tokenizer.json").write_bytes((model.path / "tokenizer.json").read_bytes() + b" ")
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json does not match"):
        export_model(model, tmp_path / "out")
    assert names_in(tmp_path / "out") == set()


def test_the_hubs_cache_names_large_files_by_their_sums(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    write_model(snapshot)
    blobs.mkdir()
    for name, blob in (("model.bin", "0" * 64), ("config.json", "1" * 40)):
        (snapshot / name).rename(blobs / blob)
        (snapshot / name).symlink_to(blobs / blob)
    assert expected_sums(snapshot, ModelSource.HUB) == {"model.bin": "0" * 64}
    assert expected_sums(snapshot, ModelSource.FOLDER) == {}


def test_hostile_sums(tmp_path: Path) -> None:
    digest = "a" * 64
    lines = [
        f"{digest}  model.bin",
        f"{digest} *config.json",
        f"{digest}  ../../etc/passwd",
        f"{digest}  /etc/passwd",
        f"{digest}  .hidden",
        "zz  tokenizer.json",
        "",
    ]
    (tmp_path / SUMS_NAME).write_bytes("\n".join(lines).encode() + b"\n\xff" * 100_000)
    assert read_sums(tmp_path) == {"model.bin": digest, "config.json": digest}
