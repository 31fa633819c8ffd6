"""docs/api.md: its examples run, its addresses exist, its tables are those of the code."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from fakes.app_server import running_app
from fakes.fake_service import FakeService, FakeSettings
from serve_app.core import errors
from serve_app.core.errors import SottoError
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.documents.build import CLOSE_CODES
from serve_app.protocols.documents.components import Components
from serve_app.protocols.doors import Channel, Operation
from serve_app.protocols.native.transcribe import UploadChoices
from serve_app.web.app import create_app
from serve_app.web.door_table import doors_of

CHANNELS = [one for one in doors_of() if isinstance(one, Channel)]
OPERATIONS = [one for one in doors_of() if isinstance(one, Operation)]

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "api.md").read_text()
MAX_LINES = 580

FRAMEWORKS = ("livekit", "pipecat")
"""Examples of these are parts of programs: what they build is run in tests/integrations."""

PORT_SHOWN = "127.0.0.1:8000"

QUIET_CURL = 'curl() { command curl --fail-with-body --silent --show-error --max-time 30 "$@"; }\n'


@dataclass(frozen=True)
class Example:
    language: str
    code: str
    line: int

    @property
    def name(self) -> str:
        return f"{self.language}-line-{self.line}"


def examples(*languages):
    for block in re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        if not languages or block[1] in languages:
            yield Example(block[1], block[2], PAGE.count("\n", 0, block.start()) + 1)


def parametrised(*languages):
    return pytest.mark.parametrize("example", list(examples(*languages)), ids=lambda one: one.name)


@pytest.fixture(scope="module")
def port():
    service = FakeService(max_sessions=32)
    with running_app(create_app(service, FakeSettings(max_file_size_mb=8.0))) as port:
        yield port


def run(command, port, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [part.replace(PORT_SHOWN, f"127.0.0.1:{port}") for part in command],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-3000:]
    return done.stdout


# -- examples ---------------------------------------------------------------------------------------


def test_there_are_examples_in_every_language():
    assert {example.language for example in examples()} >= {"bash", "python", "javascript", "html"}
    assert len(list(examples("bash"))) >= 5
    assert len(list(examples("python"))) >= 9


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@parametrised("bash")
def test_shell_examples_run(example, port, tmp_path):
    assert run(["bash", "-euo", "pipefail", "-c", QUIET_CURL + example.code], port, tmp_path)


@parametrised("python")
def test_python_examples_compile(example):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile(example.code, f"docs/api.md:{example.line}", "exec")


def modules_of(code):
    return {match[1] for match in re.finditer(r"^(?:from|import) (\w+)", code, re.MULTILINE)}


@parametrised("python")
def test_python_examples_run(example, port, tmp_path):
    modules = modules_of(example.code)
    if parts := modules & set(FRAMEWORKS):
        pytest.skip(f"a part of a program for {', '.join(parts)}: run in tests/integrations")
    if missing := [module for module in modules if find_spec(module) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert run([sys.executable, "-c", example.code], port, tmp_path).strip()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@parametrised("javascript")
def test_javascript_examples_compile(example, tmp_path):
    script = tmp_path / "example.mjs"
    script.write_text(example.code)
    subprocess.run(["node", "--check", script], check=True, capture_output=True, timeout=60)


HTTP_PATHS = {operation.documented_path for operation in OPERATIONS}
LIVE_PATHS = {channel.path for channel in CHANNELS}
BASES = {"", "/", "/v1"}
"""What SDKs take as their base URL."""


@parametrised()
def test_examples_name_doors_that_exist(example):
    for scheme, path in re.findall(rf"(https?|wss?)://{PORT_SHOWN}([^\s\"'`?]*)", example.code):
        doors = HTTP_PATHS | BASES if scheme == "http" else LIVE_PATHS | BASES
        assert path in doors | LIVE_PATHS, f"{scheme} {path}"


# -- the page ---------------------------------------------------------------------------------------


def test_the_page_stays_readable():
    lines = PAGE.splitlines()
    assert len(lines) <= MAX_LINES
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("path", sorted(HTTP_PATHS | LIVE_PATHS))
def test_every_door_is_on_the_page(path):
    assert re.search(rf"(`|GET |POST |WS ){re.escape(path)}`", PAGE)


@pytest.mark.parametrize("name", re.findall(r"\]\(([^)#:]+)", PAGE))
def test_links_lead_somewhere(name):
    assert (CHECKOUT / "docs" / name).exists()


def rows(record):
    """The table of a record's options, as the page has to show it."""
    components = Components()
    properties, _ = components.fields(record)
    for name, field in properties.items():
        referred = components.schemas.get(field.get("$ref", "").rpartition("/")[2], {})
        yield f"| `{name}` | {values_of({**field, **referred})} | {field['description']} |"


def values_of(field):
    if "anyOf" in field:
        return " or ".join(values_of(option) for option in field["anyOf"] if option["type"] != "null")
    if field.get("type") == "array":
        return f"list of up to {field['maxItems']}"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "boolean":
        return "true, false"
    if field["type"] == "string":
        return f"text, {field['maxLength']} characters"
    over = f"over {field['exclusiveMinimum']:g}" if "exclusiveMinimum" in field else f"{field['minimum']:g}"
    return f"{over} to {field['maximum']:g}"


@pytest.mark.parametrize("record", [SessionChoices, UploadChoices])
def test_option_tables_are_those_of_the_code(record):
    table = "\n".join(rows(record))
    assert table in PAGE, f"the table must be:\n{table}"


@pytest.mark.parametrize("code", sorted(CLOSE_CODES))
def test_every_close_code_is_on_the_page(code):
    assert f"| {code} | {CLOSE_CODES[code]} |" in PAGE


def all_errors(error=SottoError):
    yield error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from all_errors(child)


@pytest.mark.parametrize("code", sorted({error.code for error in all_errors()}))
def test_every_error_code_is_on_the_page(code):
    statuses = sorted({error.http_status for error in all_errors() if error.code == code})
    closes = sorted({error.close_code for error in all_errors() if error.code == code})
    (row,) = re.findall(rf"^\| `{code}` \|.*$", PAGE, re.MULTILINE)
    for number in (*statuses, *closes):
        assert str(number) in row, (number, row)


def message_rows():
    return set(re.findall(r"^\| `([\w.]+)`", PAGE, re.MULTILINE))


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_every_message_is_in_a_table(channel):
    named = message_rows() | set(re.findall(r"`([\w.]+)`", PAGE))
    tagged = {m.name for m in (*channel.received, *channel.sent) if m.record is not None}
    assert tagged - {"control", "update"} <= named
