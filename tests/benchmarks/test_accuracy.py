import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes.speech_server import running_fake_server

from benchmarks import accuracy, accuracy_runs
from benchmarks.accuracy_runs import DEFAULT_POLICY, OFFLINE, PolicyNotOffered
from benchmarks.clips import Clip
from serve_app.clients.live import SessionConfig

CLIPS = [Clip("a", np.zeros(3200, np.int16), "hello there"), Clip("b", np.zeros(1600, np.int16), "hello")]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


@pytest.fixture
def arguments(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    def config(policy: str, language: str) -> SessionConfig:
        if policy == "align_att":
            raise PolicyNotOffered("no such policy")
        return SessionConfig(lang_code=language)

    monkeypatch.setattr(accuracy, "select_clips", lambda folder, **choices: CLIPS)
    monkeypatch.setattr(accuracy_runs, "session_config", config)
    return ["--url", url, "--speed", "20"]


def test_a_whole_run_against_a_server_that_runs(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "p" / "r.png")]
    assert accuracy.main([*arguments, *outputs]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    rows = {row["policy"]: row for row in result["policies"]}
    assert list(rows) == ["dual", "local_agreement", "align_att", "offline"]
    assert [row["status"] for row in rows.values()] == ["measured", "measured", "refused", "measured"]
    for policy in ("dual", "local_agreement", "offline"):
        assert rows[policy]["wer"] == pytest.approx(1 / 3, abs=1e-4)
        assert (rows[policy]["num_words"], rows[policy]["num_clips"]) == (3, 2)
    assert rows["dual"]["first_word_ms"]["count"] == 2
    assert rows["dual"]["flicker"] == 1.0
    assert (result["clips"], result["languages"], result["parallel"]) == (["a", "b"], ["en"], 2)
    assert (tmp_path / "p" / "r.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "33.3 %" in printed
    assert "align_att refused: no such policy" in printed
    assert "hello" not in printed


def test_only_some_policies(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert accuracy.main([*arguments, "--policies", f"{OFFLINE},{DEFAULT_POLICY}", "--json", str(path)]) == 0
    assert [row["policy"] for row in json.loads(path.read_text())["policies"]] == [OFFLINE, DEFAULT_POLICY]


def test_nothing_measured_is_a_plot_without_bars(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "r.png"
    assert accuracy.main([*arguments, "--policies", "align_att", "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_server_is_a_failed_run(arguments: list[str]) -> None:
    assert accuracy.main(["--url", "http://127.0.0.1:9", "--policies", DEFAULT_POLICY]) == 1


def test_no_clips_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["--url", "http://127.0.0.1:9", "--clips", str(tmp_path)]) == 2
    assert "holds no recording" in capsys.readouterr().err


def test_an_english_model_gets_english_clips_unless_told() -> None:
    assert accuracy.parse_arguments([]).languages == ["en"]
    assert accuracy.parse_arguments(["--model", "base"]).languages == []
    assert accuracy.parse_arguments(["--model", "base", "--languages", "de,es"]).languages == ["de", "es"]


def test_what_the_service_is_started_with() -> None:
    options = accuracy.parse_arguments(["--engine", "torch", "--model", "base"])
    assert accuracy.service_settings(options) == {"engine": "torch", "model": "base"}
    options = accuracy.parse_arguments(["--interim-model", "tiny"])
    assert accuracy.service_settings(options)["interim_model"] == "tiny"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--policies", "dual,guess"],
        ["--engine", "guess"],
        ["--limit", "0"],
        ["--parallel", "0"],
        ["--speed", "0"],
        ["--max-seconds", "-1"],
        ["--chunk-ms", "5"],
    ],
)
def test_senseless_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        accuracy.parse_arguments(arguments)
