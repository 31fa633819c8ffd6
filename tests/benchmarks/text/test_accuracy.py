import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.live.load import Arrival, SessionLog
from benchmarks.text import accuracy
from benchmarks.text.accuracy import COLUMNS, cells_of, median_and_p95, row_of
from benchmarks.text.accuracy_runs import DEFAULT_POLICY, UPLOAD, ClipRun, PolicyRun
from fakes.messages import final, partial, word
from fakes.speech_server import running_fake_server
from sotto_client.errors import SessionFailed
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import SessionStarted

CLIPS = [Clip("a", np.zeros(3200, np.int16), "hello there"), Clip("b", np.zeros(1600, np.int16), "hello")]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


@pytest.fixture
def arguments(url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    start = LiveClient.start

    async def refuse(self: LiveClient, config: SessionConfig) -> SessionStarted:
        if config.streaming_policy == "align_att":
            raise SessionFailed("INVALID_CONFIG", "no such policy")
        return await start(self, SessionConfig(lang_code=config.lang_code))

    monkeypatch.setattr(accuracy, "select_clips", lambda folder, **choices: CLIPS)
    monkeypatch.setattr(LiveClient, "start", refuse)
    return ["--url", url, "--speed", "20"]


@pytest.mark.slow
def test_a_whole_run_against_a_server_that_runs(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "p" / "r.png")]
    assert accuracy.main([*arguments, *outputs]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    rows = {row["policy"]: row for row in result["policies"]}
    assert list(rows) == ["dual", "local_agreement", "align_att", "upload"]
    assert [row["status"] for row in rows.values()] == ["measured", "measured", "refused", "measured"]
    for policy in ("dual", "local_agreement", "upload"):
        assert rows[policy]["wer"] == pytest.approx(1 / 3, abs=1e-4)
        assert (rows[policy]["num_words"], rows[policy]["num_clips"]) == (3, 2)
    assert rows["dual"]["first_word_ms"]["count"] == 2
    assert rows["dual"]["flicker"] == 1.0
    assert (result["clips"], result["languages"], result["parallel"]) == (["a", "b"], ["en"], 2)
    assert (tmp_path / "p" / "r.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "33.3 %" in printed
    assert "align_att refused: INVALID_CONFIG: no such policy" in printed
    assert "hello" not in printed


def test_only_some_policies(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert accuracy.main([*arguments, "--policies", f"{UPLOAD},{DEFAULT_POLICY}", "--json", str(path)]) == 0
    assert [row["policy"] for row in json.loads(path.read_text())["policies"]] == [UPLOAD, DEFAULT_POLICY]


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


WORDS = (word("hello", 0.0, 0.4), word("there", 0.4, 0.8))


def clip(text: str = "hello there", language: str = "en", seconds: float = 2.0) -> Clip:
    return Clip("a", np.zeros(round(16_000 * seconds), np.int16), text, language)


def live_run(**changes: str) -> ClipRun:
    """A first word is stable after 0.5 s; the final, after 1.5 s, says it otherwise."""
    shown = partial("hallo their", 500.0, stable_chars=5)
    settled = final("hello there", 1000.0, endpoint_ms=1400.0, words=WORDS)
    log = SessionLog(
        100, 1.0, [0.1 * (k + 1) for k in range(20)], [Arrival(0.5, shown), Arrival(1.5, settled)]
    )
    return ClipRun(clip(), finals=["hello there"], log=log, late_chunks=1, models={"tiny.en"}, **changes)  # type: ignore[arg-type]


def policy_run(policy: str, *clips: ClipRun) -> PolicyRun:
    return PolicyRun(policy, clips, 9.0, server_cpu_s=1.0, recogniser_cpu_s=0.5, machine_cpu_percent=40.0)


def test_all_figures_of_a_policy() -> None:
    row = row_of(policy_run("dual", live_run()), engine="ctranslate2", model="tiny.en")
    assert (row["policy"], row["engine"], row["model"]) == ("dual", "ctranslate2", "tiny.en")
    assert (row["status"], row["reasons"], row["models_reported"]) == ("measured", [], ["tiny.en"])
    assert (row["wer"], row["wer_by_language"], row["num_words"]) == (0.0, {"en": 0.0}, 2)
    assert row["first_word_ms"] == {"median": 500.0, "p95": 500.0, "count": 1}
    assert row["commit_lag_ms"] == {"median": 900.0, "p95": 1080.0, "count": 2}
    assert row["final_ms"] == {"median": 100.0, "p95": 100.0, "count": 1}
    assert (row["retractions"], row["flicker"]) == (0, 1.0)
    assert (row["rtf"], row["rtf_recognisers"]) == (0.5, 0.25)
    assert (row["num_clips"], row["num_clips_failed"], row["late_chunks"]) == (1, 0, 1)


def test_policies_that_commit_promise_their_finals() -> None:
    row = row_of(policy_run("local_agreement", live_run()), engine=None, model=None)
    assert row["retractions"] == 1


def test_uploads_have_the_time_of_the_request_and_nothing_that_changes() -> None:
    runs = [ClipRun(clip(), finals=["hello"], request_ms=milliseconds) for milliseconds in (100.0, 300.0)]
    row = row_of(policy_run("upload", *runs), engine=None, model=None)
    assert row["final_ms"] == {"median": 200.0, "p95": 290.0, "count": 2}
    assert row["first_word_ms"] == row["commit_lag_ms"] == {"median": None, "p95": None, "count": 0}
    assert (row["wer"], row["retractions"], row["flicker"], row["rtf"]) == (0.5, 0, 0.0, 0.25)


def test_each_language_is_scored_its_own_way() -> None:
    runs = [
        ClipRun(clip("colour"), finals=["color"]),
        ClipRun(clip("fünf Stühle", "de"), finals=["Fünf, Tische."]),
        ClipRun(clip("你好", "zh"), finals=["你们"]),
    ]
    row = row_of(policy_run("upload", *runs), engine=None, model=None)
    assert row["wer_by_language"] == {"de": 0.5, "en": 0.0, "zh": 0.5}
    assert (row["wer"], row["num_words"]) == (0.4, 5)


def test_failed_clips_count_for_nothing_but_are_told() -> None:
    failed = live_run(failure="INTERNAL_ERROR: x")
    row = row_of(policy_run("dual", live_run(), failed), engine=None, model=None)
    assert (row["status"], row["reasons"]) == ("partly", ["INTERNAL_ERROR: x"])
    assert (row["num_clips"], row["num_clips_failed"], row["num_words"]) == (1, 1, 2)
    assert row["rtf"] is None
    assert cells_of(row)[-1] == "1, 1 failed"


@pytest.mark.parametrize(
    ("changes", "status"), [({"refusal": "NO: x"}, "refused"), ({"failure": "NO: x"}, "failed")]
)
def test_a_policy_without_figures(changes: dict[str, str], status: str) -> None:
    row = row_of(policy_run("align_att", live_run(**changes)), engine=None, model=None)
    assert (row["status"], row["reasons"], row["num_clips"]) == (status, ["NO: x"], 0)
    assert (row["wer"], row["rtf"], row["flicker"], row["retractions"]) == (None, None, None, 0)
    assert cells_of(row) == ["align_att", status, "-", "-", "-", "-", "-", "-", "-"]


def test_the_cells_fit_the_columns() -> None:
    cells = cells_of(row_of(policy_run("dual", live_run()), engine=None, model=None))
    assert cells == ["dual", "0.0 %", "500 / 500", "900 / 1080", "100 / 100", "0", "1.00", "0.500", "1"]
    assert len(cells) == len(COLUMNS)


def test_median_and_p95() -> None:
    assert median_and_p95(range(101)) == {"median": 50.0, "p95": 95.0, "count": 101}
    assert median_and_p95([]) == {"median": None, "p95": None, "count": 0}
