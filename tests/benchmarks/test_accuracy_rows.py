import numpy as np
import pytest

from benchmarks.accuracy_rows import COLUMNS, cells_of, median_and_p95, row_of
from benchmarks.accuracy_runs import ClipRun, PolicyRun
from benchmarks.clips import Clip
from benchmarks.lag import Arrival, SessionLog
from serve_app.clients.messages import FinalTranscript, PartialTranscript, SpokenWord

WORDS = (SpokenWord("hello", 0.0, 0.4, 1.0), SpokenWord("there", 0.4, 0.8, 1.0))


def clip(text: str = "hello there", language: str = "en", seconds: float = 2.0) -> Clip:
    return Clip("a", np.zeros(round(16_000 * seconds), np.int16), text, language)


def live_run(**changes: str) -> ClipRun:
    """A first word is stable after 0.5 s; the final, after 1.5 s, says it otherwise."""
    shown = PartialTranscript("1", "hallo their", 1.0, 5, "en", 0.0, 500.0)
    settled = FinalTranscript("1", "hello there", 1.0, WORDS, "en", 1000.0, 0.0, 1000.0, 1400.0)
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
    row = row_of(policy_run("offline", *runs), engine=None, model=None)
    assert row["final_ms"] == {"median": 200.0, "p95": 290.0, "count": 2}
    assert row["first_word_ms"] == row["commit_lag_ms"] == {"median": None, "p95": None, "count": 0}
    assert (row["wer"], row["retractions"], row["flicker"], row["rtf"]) == (0.5, 0, 0.0, 0.25)


def test_each_language_is_scored_its_own_way() -> None:
    runs = [
        ClipRun(clip("colour"), finals=["color"]),
        ClipRun(clip("fünf Stühle", "de"), finals=["Fünf, Tische."]),
        ClipRun(clip("你好", "zh"), finals=["你们"]),
    ]
    row = row_of(policy_run("offline", *runs), engine=None, model=None)
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
