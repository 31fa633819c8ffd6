"""The JavaScript module: its own tests, its types' file, and a session of it against the real doors."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from serve_app.protocols.documents.typescript import typescript
from serve_app.web.app import create_app

FOLDER = Path(__file__).resolve().parents[2] / "clients" / "javascript"
TYPES = (FOLDER / "sotto.d.ts").read_text()
MIN_NODE = 20
LIMIT_S = 120


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    if major_version(found) < MIN_NODE:
        pytest.skip(f"node is older than version {MIN_NODE}")
    return found


def major_version(program: str) -> int:
    answer = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    return int(answer.stdout.strip().lstrip("v").partition(".")[0])


def test_its_own_tests_pass() -> None:
    run = subprocess.run([node(), "--test"], cwd=FOLDER, capture_output=True, text=True, timeout=LIMIT_S)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
    passed = re.search(r"pass (\d+)", run.stdout)
    assert passed is not None
    assert int(passed[1]) > 50


async def test_a_session_and_an_upload_against_the_doors() -> None:
    program = node()
    flags = [] if major_version(program) >= 22 else ["--experimental-websocket"]
    service = FakeService()
    with running_app(create_app(service, FakeSettings())) as port:
        script = [program, *flags, "fakes/live_script.js", f"http://127.0.0.1:{port}", "3"]
        process = await asyncio.create_subprocess_exec(
            *script, cwd=FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(LIMIT_S):
            output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()[-2000:]
    events = [json.loads(line) for line in output.splitlines()]
    (session,) = service.sessions
    assert session.options.language == "en"
    np.testing.assert_array_equal(session.audio, np.full(48_000, 1000, np.int16))
    finals = [event for event in events if event["type"] == "final"]
    assert [final["text"] for final in finals] == ["Olá, mundo. 48000"]
    assert finals[0]["endMs"] == 3000
    partial = next(event for event in events if event["type"] == "partial")
    assert partial["stable"] + partial["unstable"] == partial["text"]
    assert events[-2] == {"type": "ended", "reason": "completed", "totalAudioMs": 3000, "totalSegments": 1}
    assert events[-1]["transcript"] == "Hello there. General Kenobi."
    assert len(service.uploads[0][0]) == 3200


def test_every_export_has_a_type_and_the_other_way_round() -> None:
    exported = set()
    for names in re.findall(r"export \{([^}]*)\}", (FOLDER / "sotto.js").read_text()):
        exported |= {name.strip() for name in names.split(",")}
    declared = set(re.findall(r"^export (?:class|function) (\w+)", TYPES, re.MULTILINE))
    assert exported == declared


def test_the_types_of_the_wire_are_those_of_the_records() -> None:
    made = "make it anew: python -m serve_app.protocols.documents.typescript > clients/javascript/wire.d.ts"
    assert (FOLDER / "wire.d.ts").read_text() == typescript(), made
    imported = set(re.findall(r"(\w+)(?: as \w+)?,? ", *re.findall(r"^import type \{(.*)\}", TYPES, re.M)))
    assert imported <= set(re.findall(r"^export interface (\w+)", typescript(), re.MULTILINE))


def test_the_package_ships_every_file_and_needs_no_other() -> None:
    package = json.loads((FOLDER / "package.json").read_text())
    assert not {"dependencies", "devDependencies", "peerDependencies"} & package.keys()
    for path in FOLDER.glob("*.js"):
        for name in re.findall(r'from "([^"]+)"', path.read_text()):
            assert (FOLDER / name).is_file(), f"{path.name} imports {name}"


IMPORTED_BY_NAME = """
import { readFile } from "node:fs/promises";
import * as client from "sotto-client";
const worklet = await readFile(new URL(import.meta.resolve("sotto-client/pcm-worklet.js")), "utf8");
const inner = await import("sotto-client/session.js").catch(({ code }) => code);
console.log(JSON.stringify([Object.keys(client).sort(), worklet.includes("registerProcessor"), inner]));
"""


@pytest.mark.slow
def test_npm_packs_it_and_the_archive_is_imported_by_name(tmp_path: Path) -> None:
    program, npm = node(), shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "pack", "--offline", "--silent", "--pack-destination", str(tmp_path), str(FOLDER)]
    environment = {
        **os.environ,
        "npm_config_cache": str(tmp_path / "cache"),
        "npm_config_update_notifier": "false",
    }
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment, timeout=LIMIT_S)
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    packed = tmp_path / "package"
    names = {path.relative_to(packed).as_posix() for path in packed.rglob("*") if path.is_file()}
    assert names == {path.name for path in FOLDER.glob("*.js")} | {
        "LICENSE",
        "README.md",
        "package.json",
        "sotto.d.ts",
        "wire.d.ts",
    }
    installed = tmp_path / "node_modules" / "sotto-client"
    installed.parent.mkdir()
    packed.rename(installed)
    script = tmp_path / "program.mjs"
    script.write_text(IMPORTED_BY_NAME)
    run = subprocess.run([program, script], capture_output=True, text=True, timeout=LIMIT_S)
    assert run.returncode == 0, run.stderr[-2000:]
    exported, has_worklet, inner = json.loads(run.stdout)
    assert {"LiveSession", "Microphone", "UtteranceRecorder", "transcribe"} <= set(exported)
    assert has_worklet
    assert inner == "ERR_PACKAGE_PATH_NOT_EXPORTED"
