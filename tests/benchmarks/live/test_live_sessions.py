import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import Clip, SessionPlan
from benchmarks.live import sessions as live_sessions
from benchmarks.live.load import LoadResult, SessionResult
from benchmarks.service import CpuSnapshot
from fakes.speech_server import running_fake_server

PLAN = SessionPlan((Clip("a", np.zeros(3200, np.int16), "hello there"),))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


def session(text: str = "hello there", failure: str | None = None) -> SessionResult:
    return SessionResult(
        PLAN,
        final_latency_ms=[100.0, 300.0],
        final_after_speech_ms=[600.0, 800.0],
        interim_lag_ms=[50.0],
        send_slip_ms=[0.0, 150.0],
        finals=[text],
        sent_samples=32_000,
        failure=failure,
    )


def load(num_sessions: int, overhead_s: float, voice_s: float, **changes: str) -> LoadResult:
    before = CpuSnapshot({1: ("Ingress", 0.0), 2: ("Recogniser", 0.0), 3: ("VoiceActivity", 0.0)}, {})
    used = {1: ("Ingress", overhead_s), 2: ("Recogniser", 5.0), 3: ("VoiceActivity", voice_s)}
    after = CpuSnapshot({**used, 4: ("client", 9.0)}, {"Ingress": 2_000_000})
    return LoadResult(tuple(session(**changes) for _ in range(num_sessions)), before, after, 10.0)


def test_all_figures() -> None:
    options = live_sessions.parse_arguments(["--sessions", "8"])
    alone = {"a": session("hello their")}
    result = live_sessions.summarise(options, load(8, 1.2, 0.4), load(2, 0.6, 0.1), alone)
    assert result["sessions"] == 8
    assert result["sessions_failed"] == 0
    assert result["held"] is True
    assert result["final_latency_ms"]["p50"] == 200.0
    assert result["final_after_speech_ms"]["p50"] == 700.0
    assert result["interim_lag_ms"]["p99"] == 50.0
    assert (result["wer"], result["wer_alone"], result["wer_vs_alone"]) == (0.0, 0.5, 0.5)
    assert result["late_chunks"] == 8
    assert result["cpu_s_per_audio_s"] == pytest.approx((1.2 + 5.0 + 0.4) / 10 / 8, abs=1e-4)
    assert result["overhead_core_percent_per_session"] == pytest.approx(100 * 0.06 / 6)
    assert result["overhead_core_percent_per_session_with_voice_activity"] == pytest.approx(100 * 0.09 / 6)
    assert result["rss_mb_by_process"] == {"Ingress": 2}


def test_a_failed_session_counts_as_neither_held_nor_accurate() -> None:
    options = live_sessions.parse_arguments(["--sessions", "2"])
    result = live_sessions.summarise(options, load(2, 1.0, 1.0, failure="INTERNAL_ERROR: x"), None, {})
    assert (result["sessions_failed"], result["held"], result["wer"]) == (2, False, None)
    assert result["failures"] == ["INTERNAL_ERROR: x"]
    assert result["overhead_core_percent_per_session"] is None
    live_sessions.show(result)


@pytest.mark.slow
def test_a_whole_run_against_a_server_that_runs(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_sessions, "load_clips", lambda folder: list(PLAN.clips))
    arguments = ["--url", url, "--sessions", "4", "--seconds", "0.1", "--ramp", "0.1", "--alone-speed", "20"]
    outputs = ["--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "p" / "r.png")]
    assert live_sessions.main([*arguments, *outputs]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    wanted = {
        "sessions",
        "interim_lag_ms",
        "final_latency_ms",
        "audio_dropped_ms",
        "wer",
        "cpu_s_per_audio_s",
        "overhead_core_percent_per_session",
    }
    assert wanted <= set(result)
    assert "raw" not in result
    assert result["wer"] == 0.5
    assert (tmp_path / "p" / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "word error rate" in capsys.readouterr().out


def test_no_server_is_a_failed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_sessions, "load_clips", lambda folder: list(PLAN.clips))
    arguments = ["--url", "http://127.0.0.1:9", "--sessions", "1", "--seconds", "0.1", "--ramp", "0"]
    assert live_sessions.main([*arguments, "--alone-speed", "0"]) == 1


@pytest.mark.parametrize("arguments", [["--sessions", "0"], ["--seconds", "-1"], ["--chunk-ms", "5"]])
def test_senseless_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        live_sessions.parse_arguments(arguments)
