"""One policy over many clips: live sessions and uploads, a few at a time, and what each of them saw."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.clips import Clip, SessionPlan
from benchmarks.live.load import LATE_CHUNK_MS, SessionLog, record_session
from benchmarks.service import CLIENT, RECOGNISERS, CpuSnapshot, cpu_between
from benchmarks.text.recordings import write_recording
from sotto_client.errors import RequestFailed, SottoClientError
from sotto_client.live import SessionConfig
from sotto_client.recordings import UploadOptions, transcribe_file

UPLOAD = "upload"
DEFAULT_POLICY = "dual"
COMMITTING_POLICIES = ("local_agreement", "align_att")
POLICIES = (DEFAULT_POLICY, *COMMITTING_POLICIES, UPLOAD)
PERMANENT_STATUSES = frozenset({400, 401, 403, 404, 415, 422})


@dataclass(frozen=True, slots=True)
class Pace:
    """`speed` 2.0 is twice real time; `parallel` clips at a time."""

    speed: float = 1.0
    parallel: int = 2
    chunk_ms: int = 100


@dataclass(slots=True)
class ClipRun:
    """What one clip gave: live its log, uploaded the time of the request. `refusal`: the server does not do
    this at all; `failure`: it should have, but did not."""

    clip: Clip
    finals: list[str] = field(default_factory=list)
    log: SessionLog | None = None
    request_ms: float | None = None
    late_chunks: int = 0
    models: set[str] = field(default_factory=set)
    refusal: str | None = None
    failure: str | None = None

    @property
    def through(self) -> bool:
        return self.refusal is None and self.failure is None

    @property
    def text(self) -> str:
        return " ".join(self.finals)


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """All clips under one policy, and the machine meanwhile. `server_cpu_s` is None where the server's
    processes cannot be seen from here."""

    policy: str
    clips: tuple[ClipRun, ...]
    elapsed_s: float = 0.0
    server_cpu_s: float | None = None
    recogniser_cpu_s: float | None = None
    machine_cpu_percent: float | None = None


def session_config(policy: str, language: str) -> SessionConfig:
    return SessionConfig(lang_code=language, word_timestamps=True, streaming_policy=policy)


async def run_policy(
    url: str, policy: str, clips: Sequence[Clip], pace: Pace, *, measure: Callable[[], CpuSnapshot]
) -> PolicyRun:
    """Every clip once, the longest first. What goes wrong is in the clips' runs, not raised."""
    slots = asyncio.Semaphore(pace.parallel)

    async def in_turn(run: Callable[[Clip], Awaitable[ClipRun]], clip: Clip) -> ClipRun:
        async with slots:
            return await run(clip)

    async def live(clip: Clip) -> ClipRun:
        return await run_session(url, clip, policy, pace)

    async def upload(clip: Clip) -> ClipRun:
        return await run_upload(url, clip)

    ordered = sorted(clips, key=lambda clip: (-clip.duration_s, clip.name))
    psutil.cpu_percent()
    before, started = await asyncio.to_thread(measure), time.perf_counter()
    run = upload if policy == UPLOAD else live
    runs = await asyncio.gather(*(in_turn(run, clip) for clip in ordered))
    elapsed_s, after = time.perf_counter() - started, await asyncio.to_thread(measure)
    cpu = {kind: seconds for kind, seconds in cpu_between(before, after).items() if kind != CLIENT}
    return PolicyRun(
        policy,
        tuple(runs),
        elapsed_s,
        sum(cpu.values()) if cpu else None,
        sum(cpu.get(kind, 0.0) for kind in RECOGNISERS) if cpu else None,
        psutil.cpu_percent(),
    )


async def run_session(url: str, clip: Clip, policy: str, pace: Pace) -> ClipRun:
    """One live session over `clip` and a second of silence."""
    samples, config = SessionPlan((clip,)).samples(), session_config(policy, clip.language)
    log = await record_session(url, samples, config, chunk_ms=pace.chunk_ms, speed=pace.speed)
    return ClipRun(
        clip,
        [final.text for final in log.finals],
        log,
        late_chunks=sum(slip > LATE_CHUNK_MS for slip in log.slips_ms),
        models={final.timing.model for final in log.finals if final.timing.model},
        refusal=log.failure if log.refused else None,
        failure=None if log.refused else log.failure,
    )


async def run_upload(url: str, clip: Clip) -> ClipRun:
    """The clip as a WAV file to `POST /transcribe`."""
    result = ClipRun(clip)
    with tempfile.TemporaryDirectory(prefix="sotto-bench-") as folder:
        path = Path(folder) / "clip.wav"
        await asyncio.to_thread(write_recording, path, [clip], clip.duration_s)
        started = time.perf_counter()
        try:
            answer = await transcribe_file(path, url=url, options=UploadOptions(language=clip.language))
        except SottoClientError as error:
            refused = isinstance(error, RequestFailed) and error.status in PERMANENT_STATUSES
            result.refusal, result.failure = (str(error), None) if refused else (None, str(error))
            return result
    result.request_ms = 1000 * (time.perf_counter() - started)
    result.finals.append(answer.transcript)
    result.models.add(answer.model)
    return result
