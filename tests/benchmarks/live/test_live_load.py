from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.clips import Clip, SessionPlan
from benchmarks.live.load import (
    SessionLog,
    result_of,
    run_alone,
    run_load,
    run_session,
)
from benchmarks.service import CpuSnapshot
from fakes.messages import ended, final, partial
from fakes.speech_server import running_fake_server
from serve_app.launch.cluster import free_ports
from sotto_client.messages import VadEvent

PLAN = SessionPlan((Clip("a", np.zeros(3200, np.int16), "hello"),))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


@pytest.mark.parametrize(
    ("stream_ms", "chunk"), [(0.0, 0), (1.0, 0), (100.0, 0), (100.01, 1), (250.0, 2), (9999.0, 2)]
)
def test_the_chunk_that_holds_a_moment(stream_ms: float, chunk: int) -> None:
    assert SessionLog(100, sent_at_s=[10.0, 11.0, 12.0]).sent_s(stream_ms) == 10.0 + chunk


def twenty_chunks() -> SessionLog:
    return SessionLog(100, sent_at_s=[0.1 * (index + 1) for index in range(20)])


def test_a_final_counts_from_its_endpoint_and_from_the_end_of_speech() -> None:
    log = twenty_chunks()
    log.hear(VadEvent(session_id="s", state="speech_end", t_ms=1000.0), 1.2)
    log.hear(final("hello", 1200.0, start_ms=200.0, endpoint_ms=1500.0), 1.75)
    result = result_of(PLAN, log)
    assert result.final_latency_ms == [pytest.approx(250.0)]
    assert result.final_after_speech_ms == [pytest.approx(750.0)]


def test_an_end_of_speech_of_another_utterance_does_not_count() -> None:
    log = twenty_chunks()
    log.hear(VadEvent(session_id="s", state="speech_end", t_ms=800.0), 1.2)
    log.hear(final("hello", 1500.0, start_ms=1000.0, endpoint_ms=1500.0), 1.6)
    result = result_of(PLAN, log)
    assert result.final_after_speech_ms == result.final_latency_ms == [pytest.approx(100.0)]


def test_an_interim_counts_from_its_last_sample() -> None:
    log = twenty_chunks()
    log.hear(partial("hel", 430.0), 0.8)
    assert result_of(PLAN, log).interim_lag_ms == [pytest.approx(300.0)]


def test_audio_that_the_server_did_not_count_was_dropped() -> None:
    log = twenty_chunks()
    log.sent_samples = 16_000
    log.hear(ended("completed", 900.0, 1), 0.0)
    assert result_of(PLAN, log).audio_dropped_ms == 100.0
    assert log.failure is None
    log.hear(ended("timeout", 1000.0, 1), 0.0)
    assert "timeout" in str(result_of(PLAN, log).failure)


async def test_a_session_over_a_real_socket(url: str) -> None:
    result = await run_session(url, PLAN, chunk_ms=100, language="en", speed=10)
    assert result.failure is None
    assert result.text == "hello"
    assert result.sent_samples == 19_200
    assert result.audio_dropped_ms == 0
    assert len(result.interim_lag_ms) == 12
    assert all(0 <= lag < 1000 for lag in result.interim_lag_ms)


async def test_a_server_that_is_not_there_is_a_failed_session() -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    result = await run_session(url, PLAN, chunk_ms=100, language="en")
    assert result.failure is not None
    assert result.failure.startswith("ServerUnreachable")


async def test_each_order_of_clips_runs_alone_once(url: str) -> None:
    alone = await run_alone(url, [PLAN, PLAN], chunk_ms=100, language="en", speed=20)
    assert list(alone) == ["a"]
    assert alone["a"].text == "hello"


async def test_load_measures_while_all_sessions_talk(url: str) -> None:
    snapshots = iter([CpuSnapshot({1: ("Ingress", 1.0)}, {}), CpuSnapshot({1: ("Ingress", 3.0)}, {})])
    load = await run_load(
        url,
        [PLAN, PLAN, PLAN],
        ramp_s=0.05,
        steady_until_s=0.2,
        chunk_ms=100,
        language="en",
        measure=lambda: next(snapshots),
    )
    assert [session.failure for session in load.sessions] == [None] * 3
    assert load.after.seconds[1] == ("Ingress", 3.0)
    assert 0.9 < load.window_s < 1.6
