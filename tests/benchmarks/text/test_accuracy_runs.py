import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.service import CpuSnapshot
from benchmarks.text import accuracy_runs
from benchmarks.text.accuracy_runs import (
    UPLOAD,
    ClipRun,
    Pace,
    run_policy,
    run_session,
    run_upload,
    session_config,
)
from fakes.speech_server import running_fake_server
from serve_app.launch.cluster import free_ports
from sotto_client.errors import SessionFailed
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import FinalTranscript, PartialTranscript, SessionEnded

CLIP = Clip("a", np.zeros(3200, np.int16), "hello there", "en")
FAST = Pace(speed=20.0)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


def nothing_seen() -> CpuSnapshot:
    return CpuSnapshot({1: ("client", 1.0)}, {})


def test_the_policy_is_asked_for() -> None:
    assert session_config("align_att", "de") == SessionConfig(
        lang_code="de", word_timestamps=True, streaming_policy="align_att"
    )


async def test_a_session_over_a_real_socket(url: str) -> None:
    run = await run_session(url, CLIP, "dual", FAST)
    assert run.through
    assert run.text == "hello"
    assert run.log is not None
    messages = [arrival.message for arrival in run.log.arrivals]
    assert [type(m) for m in messages] == [PartialTranscript] * 12 + [FinalTranscript, SessionEnded]
    assert len(run.log.sent_at_s) == 12
    assert run.log.sent_at_s == sorted(run.log.sent_at_s)
    assert run.log.arrivals[-1].at_s > run.log.sent_at_s[-1]
    assert (run.log.speed, run.log.chunk_ms) == (20.0, 100)


async def test_a_server_that_is_not_there_is_a_failed_clip() -> None:
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    run = await run_session(nowhere, CLIP, "dual", FAST)
    assert (run.through, run.refusal) == (False, None)
    assert str(run.failure).startswith("ServerUnreachable")
    upload = await run_upload(nowhere, CLIP)
    assert "No server answers" in str(upload.failure)


@pytest.mark.parametrize("retryable", [False, True])
async def test_a_refused_session_is_a_failure_only_if_it_may_pass(
    url: str, monkeypatch: pytest.MonkeyPatch, retryable: bool
) -> None:
    async def refuse(self: LiveClient, config: SessionConfig) -> None:
        raise SessionFailed("UNSUPPORTED", "no such policy", retryable=retryable)

    monkeypatch.setattr(LiveClient, "start", refuse)
    run = await run_session(url, CLIP, "dual", FAST)
    reasons = ("UNSUPPORTED: no such policy", None)
    assert (run.failure, run.refusal) == (reasons if retryable else reasons[::-1])


async def test_an_upload(url: str) -> None:
    run = await run_upload(url, CLIP)
    assert (run.text, run.models, run.through, run.log) == ("hello", {"fake"}, True, None)
    assert run.request_ms is not None
    assert run.request_ms > 0


@pytest.mark.parametrize(("status", "refused"), [(404, True), (503, False)])
async def test_an_upload_that_the_server_answers_with_an_error(
    monkeypatch: pytest.MonkeyPatch, status: int, refused: bool
) -> None:
    async def answer(*arguments: object, **options: object) -> None:
        raise accuracy_runs.RequestFailed(status, "no")

    monkeypatch.setattr(accuracy_runs, "transcribe_file", answer)
    run = await run_upload("http://nowhere", CLIP)
    assert (run.refusal is not None, run.failure is not None) == (refused, not refused)
    assert run.request_ms is None


async def test_clips_go_longest_first_and_so_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[str] = []
    running, most = 0, 0

    async def session(url: str, clip: Clip, policy: str, pace: Pace) -> ClipRun:
        nonlocal running, most
        began.append(clip.name)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return ClipRun(clip)

    monkeypatch.setattr(accuracy_runs, "run_session", session)
    clips = [Clip(name, np.zeros(length, np.int16), "x") for name, length in (("a", 1), ("b", 3), ("c", 2))]
    run = await run_policy("", "dual", clips, Pace(parallel=2), measure=nothing_seen)
    assert began == ["b", "c", "a"]
    assert most == 2
    assert [clip.clip.name for clip in run.clips] == ["b", "c", "a"]


async def test_cpu_of_the_server_and_not_of_the_client(url: str) -> None:
    used = iter(
        [
            CpuSnapshot({1: ("client", 1.0), 2: ("Ingress", 1.0), 3: ("Recogniser", 5.0)}, {}),
            CpuSnapshot({1: ("client", 9.0), 2: ("Ingress", 1.5), 3: ("Recogniser", 7.0)}, {}),
        ]
    )
    run = await run_policy(url, UPLOAD, [CLIP], FAST, measure=lambda: next(used))
    assert (run.server_cpu_s, run.recogniser_cpu_s) == (2.5, 2.0)
    unseen = await run_policy(url, UPLOAD, [CLIP], FAST, measure=nothing_seen)
    assert (unseen.server_cpu_s, unseen.recogniser_cpu_s) == (None, None)
