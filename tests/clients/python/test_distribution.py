"""`sotto-client` as a distribution: what is in its wheel, and that it works without the server's packages."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

import sotto_client

FOLDER = Path(__file__).resolve().parents[3] / "clients" / "python"
REQUIREMENTS = FOLDER.parents[1] / "requirements"
LIMIT_S = 120

ALONE = """
import importlib, importlib.abc, pkgutil, sys
from pathlib import Path

class Refused(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("serve_app", "ray", "numpy", "av", "starlette", "pydantic"):
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.path.insert(0, sys.argv[1])
sys.meta_path.insert(0, Refused())
import sotto_client
assert sotto_client.__file__.startswith(sys.argv[1]), sotto_client.__file__
for module in pkgutil.iter_modules(sotto_client.__path__):
    if module.name not in ("livekit_plugin", "livekit_events", "pipecat_service"):
        importlib.import_module(f"sotto_client.{module.name}")
try:
    sotto_client.audio.load_recording(Path("x"))
except ImportError as error:
    print(error)
try:
    import sotto_client.livekit_plugin
except ImportError as error:
    assert "livekit-agents" in str(error) or error.name == "numpy", error
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in (*FOLDER.glob("*.*"), FOLDER / "LICENSE", *FOLDER.glob("sotto_client/*.*")):
        if path.is_file():
            copy = source / path.relative_to(FOLDER)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--wheel-dir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = folder.glob("*.whl")
    return built


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(files.read(name))


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    assert wheel.name == f"sotto_client-{sotto_client.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as files:
        names = {name for name in files.namelist() if ".dist-info/" not in name}
        assert any(name.endswith("licenses/LICENSE") for name in files.namelist())
    assert names == {
        f"sotto_client/{path.name}" for path in FOLDER.glob("sotto_client/*.*") if path.is_file()
    }
    assert "sotto_client/py.typed" in names


def test_it_needs_neither_ray_nor_models(wheel: Path) -> None:
    metadata = metadata_of(wheel)
    assert metadata["Requires-Python"] == ">=3.10"
    needed = {
        requirement for requirement in metadata.get_all("Requires-Dist", []) if "extra ==" not in requirement
    }
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in needed}
    assert names == {"async-timeout", "h11", "httpx", "msgspec", "websockets"}


def test_the_server_brings_what_it_needs() -> None:
    """It is installed beside the server without its dependencies: all of them are among the locked ones."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    locked = set(re.findall(r"^([\w-]+)==", (REQUIREMENTS / "runtime.txt").read_text(), re.MULTILINE))
    for requirement in project["dependencies"]:
        if "python_version < '3.11'" not in requirement:
            assert re.split(r"[^\w-]", requirement)[0] in locked


def test_it_works_without_the_server(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(tmp_path)], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert "sotto-client[files]" in done.stdout
