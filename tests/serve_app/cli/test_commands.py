import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fakes.app_server import running_app
from fakes.encoded_audio import chirp, wav
from fakes.fake_service import FakeService, FakeSettings
from fakes.speech_server import running_fake_server
from serve_app.cli.app import app
from serve_app.cli.serving import describe_models
from serve_app.launch.cluster import SOURCE_DIR
from serve_app.web.app import create_app

CLIP = SOURCE_DIR / "audio" / "spoken" / "short_1.flac"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_help_starts_no_engine() -> None:
    """The heavy imports wait: a person who mistypes a flag should not wait for Ray."""
    code = (
        "import sys, serve_app.cli; "
        "print(sorted({'ray', 'ctranslate2', 'av', 'onnxruntime', 'starlette'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=SOURCE_DIR)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("output_format", "expected"), [("text", "hello\n"), ("srt", "-->"), ("json", '"transcript": "hello"')]
)
def test_transcribe(url: str, output_format: str, expected: str) -> None:
    status, out, _ = run("transcribe", str(CLIP), "--url", url, "--format", output_format)
    assert status == 0
    assert expected in out


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--diarize"], "SPEAKER_01: hello\n"),
        (["--num-speakers", "2"], "SPEAKER_01: hello\n"),
        (["--num-speakers", "2", "--no-diarize"], "hello\n"),
    ],
)
def test_transcribe_says_who_spoke(url: str, flags: list[str], expected: str) -> None:
    status, out, _ = run("transcribe", str(CLIP), "--url", url, *flags)
    assert (status, out) == (0, expected)


def test_several_files_are_one_json_a_line(url: str) -> None:
    status, out, _ = run("transcribe", str(CLIP), str(CLIP), "--url", url, "--format", "json")
    assert status == 0
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(CLIP)] * 2


def test_a_bad_file_does_not_stop_the_others(url: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    status, out, errors = run("transcribe", str(empty), str(CLIP), "--url", url, "--format", "json")
    assert status == 1
    assert len(out.splitlines()) == 1
    assert "no audio in it" in errors


def test_no_server_says_how_to_start_one() -> None:
    status, _, errors = run("transcribe", str(CLIP), "--url", "http://127.0.0.1:9")
    assert status == 1
    assert "sotto serve" in errors


def test_an_unknown_format_is_refused_before_any_upload() -> None:
    status, _, errors = run("transcribe", str(CLIP), "--format", "pdf")
    assert status == 2
    assert "text, json, srt, vtt" in errors


def test_live_prints_interims_and_finals(url: str) -> None:
    status, out, _ = run("live", str(CLIP), "--url", url, "--speed", "50")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "... hel"
    assert lines[-1] == "[00:00.00] hello"


def test_live_without_a_server() -> None:
    status, _, errors = run("live", str(CLIP), "--url", "http://127.0.0.1:9", "--speed", "50")
    assert status == 1
    assert "sotto serve" in errors


def test_serve_refuses_what_is_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, errors = run("serve", "--vad-treshold", "0.4", "--profile", "cpu")
    assert status == 2
    assert "vad_threshold" in errors
    status, _, errors = run("serve", "model.bin")
    assert status == 2
    assert "no flag" in errors


def test_serve_refuses_an_unreadable_config(tmp_path: Path) -> None:
    status, _, errors = run("serve", "--profile", "cpu", "--config", str(tmp_path / "gone.yaml"))
    assert status == 2
    assert "cannot read" in errors


def test_models_are_described_by_role() -> None:
    model = {"role": "final", "name": "base", "device": "cpu", "compute_type": "int8"}
    assert describe_models({"models": [model]}) == ["final      base on cpu, int8"]
    assert describe_models({}) == []


@pytest.mark.models
def test_doctor_and_models() -> None:
    status, out, _ = run("doctor", "--no-measure")
    assert status == 0
    assert "tiny.en" in out
    assert "haproxy" in out
    status, out, _ = run("models", "list")
    assert status == 0
    assert "large-v3" in out
    status, out, _ = run("models", "verify", "tiny.en")
    assert status == 0
    assert "checksums match" in out
    status, _, errors = run("models", "verify", "no-such-model")
    assert status == 1
    assert "no-such-model" in errors


@pytest.fixture(scope="module")
def doors() -> Iterator[str]:
    with running_app(create_app(FakeService(), FakeSettings())) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("output_format", ["text", "json", "srt", "vtt"])
def test_missing_audio_is_told_beside_the_text(doors: str, tmp_path: Path, output_format: str) -> None:
    whole, cut = tmp_path / "whole.wav", tmp_path / "cut.wav"
    whole.write_bytes(wav(chirp(2.0, 16_000), 16_000))
    cut.write_bytes(whole.read_bytes()[:40_000])
    status, out, errors = run("transcribe", str(cut), "--url", doors, "--format", output_format)
    assert status == 3
    assert "Hello" in out
    assert f"warning: {cut}: the recording states 64044 bytes, 40000 came" in errors.replace("\n", "")
    status, _, errors = run("transcribe", str(whole), "--url", doors, "--format", output_format)
    assert (status, errors.strip()) == (0, "")


def test_sound_that_is_whole_but_odd_is_told_and_good(doors: str) -> None:
    file = SOURCE_DIR / "tests" / "golden" / "files" / "t03_phase.flac"
    status, out, errors = run("transcribe", str(file), "--url", doors)
    assert (status, "Hello" in out) == (0, True)
    assert "opposite phase" in errors
