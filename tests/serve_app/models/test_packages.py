"""Files out of installed packages: joined whole or not at all, whoever else joins them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fakes.whisper_folder import install_package, install_split_model, model_files
from serve_app.core.errors import ModelUnavailable
from serve_app.models import packages
from serve_app.models.packages import (
    PackageDamaged,
    PackageMissing,
    is_installed,
    is_whole,
    join_packages,
    locate,
    silero_vad_path,
    silero_vad_sequence_path,
)
from serve_app.models.registry import SILERO_VAD, FilePart, ModelSpec
from serve_app.models.verify import check_folder, check_sums

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def spec(site: Path) -> ModelSpec:
    return install_split_model(site)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if "joining" in path.name)


def test_parts_are_joined_in_order(spec: ModelSpec, tmp_path: Path) -> None:
    folder = join_packages(spec, tmp_path / "cache" / "models" / "fake")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == model_files()
    assert check_folder(folder) == []
    assert check_sums(folder, spec.sums) == []
    assert leftovers(folder) == []
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_whole_folder_is_left_alone(spec: ModelSpec, tmp_path: Path) -> None:
    folder = join_packages(spec, tmp_path / "fake")
    before = (folder / "model.bin").stat().st_mtime_ns
    join_packages(spec, folder)
    assert (folder / "model.bin").stat().st_mtime_ns == before


def test_a_cut_folder_is_made_again(spec: ModelSpec, tmp_path: Path) -> None:
    folder = join_packages(spec, tmp_path / "fake")
    (folder / "model.bin").write_bytes(b"cut")
    assert not is_whole(folder, spec)
    join_packages(spec, folder)
    assert check_sums(folder, spec.sums) == []
    assert leftovers(folder) == []


def test_what_a_killed_process_left_is_removed(spec: ModelSpec, tmp_path: Path) -> None:
    stale = tmp_path / ".fake-joining-abc"
    stale.mkdir()
    (stale / "model.bin").write_bytes(b"half")
    folder = join_packages(spec, tmp_path / "fake")
    assert leftovers(folder) == []


@pytest.mark.parametrize(
    "part", ["fake_weights_1/data/model.bin.part1", "fake_weights_2/data/tokenizer.json"]
)
def test_a_damaged_part_leaves_nothing_behind(spec: ModelSpec, site: Path, tmp_path: Path, part: str) -> None:
    file = site / part
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    folder = tmp_path / "fake"
    with pytest.raises(PackageDamaged, match="does not match its checksum: reinstall fake-weights"):
        join_packages(spec, folder)
    assert not folder.exists()
    assert leftovers(folder) == []


def test_a_package_that_is_not_installed(tmp_path: Path) -> None:
    part = FilePart("fake-weights-not-there", "x/model.bin")
    with pytest.raises(PackageMissing, match="fake-weights-not-there is not installed"):
        locate(part)


def test_a_part_that_was_deleted(spec: ModelSpec, site: Path, tmp_path: Path) -> None:
    (site / "fake_weights_2/data/model.bin.part2").unlink()
    assert not is_installed(spec)
    with pytest.raises(PackageMissing, match=r"fake-weights-2 lacks .*part2"):
        join_packages(spec, tmp_path / "fake")


def test_the_package_is_never_imported(spec: ModelSpec, site: Path, tmp_path: Path) -> None:
    (site / "fake_weights_1" / "__init__.py").write_text("raise SystemExit('imported')")
    join_packages(spec, tmp_path / "fake")
    assert "fake_weights_1" not in sys.modules


def test_a_cache_that_cannot_be_written(spec: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(ModelUnavailable, match="STT_CACHE_DIR"):
        join_packages(spec, tmp_path / "cache" / "fake")


def test_a_full_disk_leaves_nothing_behind(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packages.os, "fsync", full)
    folder = tmp_path / "fake"
    with pytest.raises(ModelUnavailable, match="No space left"):
        join_packages(spec, folder)
    assert not folder.exists()
    assert leftovers(folder) == []


def test_without_file_locks_it_still_joins(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_handle: object, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(packages.fcntl, "flock", no_locks)
    folder = join_packages(spec, tmp_path / "fake")
    assert check_sums(folder, spec.sums) == []


def test_a_folder_that_appears_meanwhile_is_kept(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks another process may win the rename: its folder is as good as ours."""
    folder = tmp_path / "fake"
    write = packages._write_checked

    def other_wins(*args: object) -> None:
        write(*args)  # type: ignore[arg-type]
        if not folder.exists():
            monkeypatch.setattr(packages, "_write_checked", write)
            join_again = packages._join
            join_again(
                [(file, [locate(part) for part in file.parts]) for file in spec.packaged_files], folder, spec
            )

    monkeypatch.setattr(packages, "_write_checked", other_wins)
    assert join_packages(spec, folder) == folder
    assert check_sums(folder, spec.sums) == []
    assert leftovers(folder) == []


JOINER = """
import sys, time
from pathlib import Path
from fakes.whisper_folder import install_split_model
from serve_app.models import packages
from serve_app.models.verify import check_sums

scratch, cache, gate = (Path(argument) for argument in sys.argv[1:])
spec = install_split_model(scratch, ballast_bytes=200_000)
joined = []
join = packages._join
packages._join = lambda *arguments: (joined.append(1), join(*arguments))
gate.with_suffix(f".{scratch.name}").touch()
while not gate.exists():
    time.sleep(0.001)
folder = packages.join_packages(spec, cache / "fake")
assert check_sums(folder, spec.sums) == []
print(len(joined))
"""


@pytest.mark.slow
def test_several_processes_join_it_once(tmp_path: Path) -> None:
    gate = tmp_path / "go"
    cache = tmp_path / "cache"
    processes = []
    for index in range(3):
        scratch = tmp_path / f"site{index}"
        scratch.mkdir()
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(scratch)])
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(JOINER), str(scratch), str(cache), str(gate)],
                env={**os.environ, "PYTHONPATH": path},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    try:
        while len(list(tmp_path.glob("go.site*"))) < len(processes):
            assert all(process.poll() is None for process in processes)
        gate.touch()
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(int(output) for output in outputs) == 1
    assert leftovers(cache / "fake") == []


@pytest.mark.models
def test_silero_is_found_without_importing_it() -> None:
    assert silero_vad_path().name == "silero_vad.onnx"
    assert silero_vad_sequence_path().name == "silero_vad_16k_sequence.onnx"
    assert "silero_vad" not in sys.modules


def test_another_silero_is_refused(site: Path) -> None:
    install_package(site, "silero-vad", {SILERO_VAD.part.file: b"other weights"})
    with pytest.raises(PackageDamaged, match=r"silero-vad==6\.2\.3"):
        silero_vad_path()


def test_a_missing_silero_file(site: Path) -> None:
    install_package(site, "silero-vad", {"silero_vad/data/other.onnx": b""})
    with pytest.raises(PackageMissing, match=r"lacks silero_vad/data/silero_vad\.onnx"):
        silero_vad_path()
