"""The image's install steps without Docker: every COPY and Python step of the Dockerfile, in a bare folder.

    python deploy/docker/check_install.py [--folder EMPTY_FOLDER] [--keep] [NAME=VALUE ...]

Paths of the image (/opt, /models, /tmp, /var) lie under the folder, `python` is the interpreter that runs
this, and only files that `.dockerignore` lets through are there to be copied. Steps that need root are named
and left out. At the end `sotto doctor` and an import of the graph must succeed with the
image's own variables. Build arguments are given as NAME=VALUE; needs a package index, and some 2 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from dockerfile import (  # noqa: E402
    Instruction,
    Stage,
    among,
    environment,
    files_of,
    lineage,
    parse_dockerfile,
    sent_to_build,
)

CHECKOUT = HERE.parents[1]
IMAGE_PATHS = re.compile(r"(?<![\w./-])/(opt|models|tmp|var)\b")
STEP_TIMEOUT_S = 540
KEPT_VARIABLES = ("LANG", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


class InstallError(RuntimeError):
    """A step that failed; the message names it and ends with what it said."""


class BareFolder:
    """Where the image's root file system is pretended to be; all stages share it."""

    def __init__(self, root: Path, arguments: dict[str, str]) -> None:
        self.root = root
        self.skipped: list[str] = []
        self._arguments = arguments
        self._context = sent_to_build(
            (CHECKOUT / ".dockerignore").read_text(encoding="utf-8"), files_of(CHECKOUT)
        )
        for folder in ("opt/sotto", "tmp", "var/cache/sotto", "var/lib/sotto", "bin"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        # By its own path a virtual environment's interpreter would find its own environment again.
        python = root / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec "{Path(sys.executable).resolve()}" "$@"\n', encoding="utf-8")
        python.chmod(0o755)

    def run_stages(self, stages: Sequence[Stage], target: str) -> None:
        """Every stage in the file's order up to `target`. Raises `InstallError`."""
        for stage in stages:
            variables = environment(lineage(stages, stage.name), self._arguments)
            for instruction in stage.instructions:
                if instruction.copied:
                    self._copy(instruction)
                elif instruction.keyword == "RUN" and needs_root(instruction.value):
                    self.skipped.append(
                        f"line {instruction.line}: {instruction.value.split('&&')[0].strip()} ..."
                    )
                elif instruction.keyword == "RUN":
                    self.run(instruction.value, variables, f"line {instruction.line}")
            if stage.name == target:
                return

    def run(self, command: str, variables: dict[str, str], what: str) -> str:
        """The command's output. Raises `InstallError`."""
        # The path may hold the folder's own bin and the environment's, and nothing else that is Python.
        kept = {
            name: os.environ[name] for name in os.environ if name in KEPT_VARIABLES or name.startswith("PIP_")
        }
        tools = f"{self.root}/bin:/usr/bin:/bin"
        values = {**kept, **{name: self.moved(value) for name, value in variables.items()}}
        path = variables.get("PATH", "").strip(":")
        values["PATH"] = f"{self.moved(path)}:{tools}" if path else tools
        values.setdefault("HOME", str(self.root / "var/lib/sotto"))
        started_s = time.monotonic()
        done = subprocess.run(
            ["/bin/bash", "-euo", "pipefail", "-c", self.moved(command)],
            cwd=self.root / "opt/sotto",
            env=values,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_TIMEOUT_S,
        )
        print(f"{time.monotonic() - started_s:6.1f} s  {what}: {' '.join(command.split())[:90]}", flush=True)
        if done.returncode != 0:
            raise InstallError(f"{what}: status {done.returncode}\n{done.stdout[-3000:]}")
        return done.stdout

    def moved(self, text: str) -> str:
        """The image's absolute paths, under the folder."""
        return IMAGE_PATHS.sub(lambda found: f"{self.root}{found[0]}", text)

    def _copy(self, instruction: Instruction) -> None:
        target = instruction.value.split()[-1]
        for source in instruction.copied:
            wanted = PurePosixPath(source)
            found = among(self._context, source)
            if not found:
                raise InstallError(
                    f"line {instruction.line}: .dockerignore keeps {source} out, or it is missing"
                )
            for file in found:
                inner = file.relative_to(wanted) if file != wanted else PurePosixPath(file.name)
                copy = self.root / "opt/sotto" / target / inner
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(CHECKOUT / file, copy)


def needs_root(command: str) -> bool:
    return command.startswith(("apt-get ", "printf ")) or "ldconfig" in command


def check_cpu_image(root: Path, arguments: dict[str, str]) -> BareFolder:
    """Do it, and look at the result. Raises `InstallError`."""
    stages = parse_dockerfile((HERE / "Dockerfile").read_text(encoding="utf-8"))
    wanted = re.search(r"python:(\d+\.\d+)", stages[0].base)
    if wanted and wanted[1] != "{}.{}".format(*sys.version_info):
        print(f"note: the image has Python {wanted[1]}, this is {sys.version.split()[0]}")
    folder = BareFolder(root, arguments)
    folder.run_stages(stages, stages[-1].name)
    variables = environment(lineage(stages, stages[-1].name), arguments) | {"STT_OFFLINE": "true"}
    print(folder.run("sotto doctor", variables, "result"))
    folder.run("python -c 'import graphs.full, deployments.ingress'", variables, "result")
    left = list((root / "var/cache/sotto").rglob("*"))
    if left:
        raise InstallError(f"the first use wrote into the cache, which may be read-only: {left[:3]}")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="an empty folder; without it a temporary one")
    parser.add_argument("--keep", action="store_true", help="leave the folder there")
    parser.add_argument("arguments", nargs="*", metavar="NAME=VALUE", help="build arguments")
    options = parser.parse_args()
    root = (options.folder or Path(tempfile.mkdtemp(prefix="sotto-image-"))).resolve()
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        parser.error(f"{root} is not empty")
    try:
        folder = check_cpu_image(root, dict(item.split("=", 1) for item in options.arguments))
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)
    for step in folder.skipped:
        print(f"not run  {step}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
