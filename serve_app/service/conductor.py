"""One per ingress replica: gathers the work of all its live sessions into one call per deployment.

Every tick asks the voice detector once, for the new windows of every session; what follows from the answer
goes to the recognisers in one call each, whose results come back one by one as they are ready. Finals are
sent at once, one of each session before the second of any, speculative finals while the finals' queue is
short, interims as far as the `InterimGate` lets them: the session that has waited longest first, always
with its newest audio. What gives way under load, and in which order, the `Ladder` says.

Calls that a dead replica took with it are sent again: decoding and detection have no side effects.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from serve_app.capacity.ladder import Ladder, LadderLimits, Rung
from serve_app.capacity.speakers import SpeakerEstimate
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    DecodeTiming,
    Role,
    Transcript,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, ms_to_samples
from serve_app.service.counters import Counters
from serve_app.service.listening import MAX_WINDOWS_PER_CALL, Listening
from serve_app.service.live import Live
from serve_app.service.ports import RecogniserPort, SpeakerPort, VoicePort
from serve_app.service.retries import decode_reliably, detect_reliably
from serve_app.service.silence import SilenceWatch
from serve_app.session.backpressure import InterimBudget, InterimGate, InterimLoad
from serve_app.session.effects import DecodeRequest, Purpose
from serve_app.telemetry.traces import DecodeTrace, Traces
from serve_app.vad.detector import VadRequest

log = structlog.get_logger(__name__)

MAX_VOICE_ROUNDS = 4
"""Voice calls per tick: more than one only where a flush, an endpoint or a backlog asks for it."""

PUBLISH_INTERVAL_S = 1.0
OVERDUE_SAMPLES = 2 * SAMPLE_RATE_HZ
"""A session whose interim is due for longer waits for one."""


@dataclass(frozen=True, slots=True)
class ConductorConfig:
    tick_s: float = 0.064
    speculative_finals: bool = True
    max_speculative_in_flight: int = 2
    interim_budget: InterimBudget = InterimBudget(num_workers=2)
    max_interim_window_ms: int = 8_000
    beam_size: int = 1
    interim_beam_size: int = 1
    speaker_step_s: float = 5.0
    max_speaker_windows: int = MAX_WINDOWS_PER_CALL
    ladder: LadderLimits = LadderLimits()


@dataclass(slots=True)
class _InFlight:
    live: Live
    request: DecodeRequest
    sent_s: float
    trace: DecodeTrace | None


class Conductor:
    """Drives the sessions of one ingress replica. Start `run()` as a task; it ends when cancelled."""

    def __init__(
        self,
        config: ConductorConfig,
        *,
        voice: VoicePort,
        interim: RecogniserPort,
        final: RecogniserPort,
        counters: Counters,
        speakers: SpeakerPort | None = None,
        estimate: SpeakerEstimate | None = None,
        smaller_knows: Callable[[DecodeJob], bool] = lambda job: False,
        clock: Callable[[], float] = time.monotonic,
        traces: Traces | None = None,
    ) -> None:
        """`estimate` is told how much people talk. `smaller_knows`: whether the interim model is another than
        the finals', and could decode this."""
        self._config = config
        self._voice = voice
        self._interim = interim
        self._final = final
        self._counters = counters
        self._clock = clock
        self._traces = traces
        self._gate = InterimGate(config.interim_budget, clock())
        self._ladder = Ladder(config.ladder, clock())
        self._smaller_knows = smaller_knows
        self._estimate = estimate or SpeakerEstimate(None, clock())
        self._lives: dict[str, Live] = {}
        self._in_flight: dict[int, _InFlight] = {}
        self._next_job_id = 0
        self._num_finals = 0
        self._holds_finals = False
        self._backlog_s = 0.0
        self._offering = False
        self._awake = asyncio.Event()
        self._silence = SilenceWatch(clock)
        self._calls: set[asyncio.Task[None]] = set()
        self._listening: Listening | None = None
        if speakers is not None:
            self._listening = Listening(
                speakers,
                wake=self.wake,
                on_retry=counters.retried,
                on_answer=counters.listened,
                step_s=config.speaker_step_s,
                max_windows=config.max_speaker_windows,
                clock=clock,
            )

    @property
    def num_finals_in_flight(self) -> int:
        return self._num_finals

    @property
    def num_interims_in_flight(self) -> int:
        return self._gate.in_flight

    @property
    def load(self) -> InterimLoad:
        ladder, gate = self._ladder, self._gate
        paused = gate.paused or self._num_finals > self._config.interim_budget.num_workers
        slowdown, shorter = 1.0 / gate.relief, gate.window_share
        return InterimLoad(ladder.level, slowdown, shorter, paused, ladder.rung, ladder.estimated_ms)

    def take_stock(self) -> None:
        """Climb or leave the ladder as the load is now; every tick does, and who admits a session."""
        oldest = next((f for f in self._in_flight.values() if f.request.purpose is not Purpose.INTERIM), None)
        now_s, before = self._clock(), self._ladder.rung
        overdue = sum(live.session.interim_age_samples > OVERDUE_SAMPLES for live in self._lives.values())
        rung = self._ladder.step(
            now_s,
            num_finals=self._num_finals,
            backlog_s=self._backlog_s,
            oldest_s=0.0 if oldest is None else now_s - oldest.sent_s,
            num_interims=self._gate.in_flight + overdue,
        )
        self._estimate.passed(len(self._lives), now_s)
        self._gate.relief = self._ladder.relief
        self._gate.paused = rung >= Rung.NO_INTERIMS
        if rung is not before:
            log.info(
                "load",
                rung=rung.name.lower(),
                before=before.name.lower(),
                estimated_ms=round(self._ladder.estimated_ms),
                finals=self._num_finals,
                sessions=len(self._lives),
            )

    def wake(self) -> None:
        """There may be something to do."""
        self._awake.set()

    def add(self, live: Live) -> None:
        self._lives[live.session_id] = live
        self.wake()

    def remove(self, session_id: str) -> None:
        self._lives.pop(session_id, None)

    async def run(self) -> None:
        """Tick for ever; sleeps while no session has anything new."""
        watching = asyncio.create_task(self._silence.run())
        try:
            await self._tick_for_ever()
        finally:
            watching.cancel()

    async def _tick_for_ever(self) -> None:
        published_s, was_busy = 0.0, False
        while True:
            # On a rung of the ladder it looks again from time to time, to leave it where nothing comes.
            patience_s = None if self._ladder.rung is Rung.NORMAL else PUBLISH_INTERVAL_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await self._awake.wait()
            self._awake.clear()
            began_s = self._clock()
            await self._tick()
            is_busy = bool(self._in_flight)
            # The last answer is published too: nothing may wake this loop again for hours.
            if began_s - published_s >= PUBLISH_INTERVAL_S or (was_busy and not is_busy):
                published_s, was_busy = began_s, is_busy
                self._counters.queued(self._num_finals, self._gate.in_flight, self._ladder)
            await asyncio.sleep(max(0.0, self._config.tick_s - (self._clock() - began_s)))

    async def close(self) -> None:
        """Cancel what is in flight."""
        for call in tuple(self._calls):
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        if self._listening is not None:
            await self._listening.close()

    # -- one tick --------------------------------------------------------------------------------

    async def _tick(self) -> None:
        self.take_stock()
        lives = tuple(self._lives.values())
        for _ in range(MAX_VOICE_ROUNDS):
            asked: list[tuple[Live, VadRequest]] = []
            for live in lives:
                effects, request = live.session.poll_voice()
                live.apply(effects)
                if request is not None:
                    asked.append((live, request))
            if asked:
                self._silence.listening([live for live, _ in asked])
                began_ns = 0 if self._traces is None else time.time_ns()
                answers = await detect_reliably(self._voice, [r for _, r in asked], self._counters.retried)
                if self._traces is not None:
                    self._traces.voice_called(began_ns, [live.trace for live, _ in asked])
                self._silence.listened()
                for (live, _), answer in zip(asked, answers, strict=True):
                    live.apply(live.session.on_voice(answer))
            self._send_finals()
            # Again at once only where an endpoint, a flush or a backlog left work; a window that has just
            # come in waits for the next tick, so that ticks stay large calls.
            lives = tuple(live for live, _ in asked if live.session.is_behind)
            if not lives:
                break
        else:
            self.wake()
        self._offer_optional_work()
        if self._listening is not None:
            self._listening.offer(self._lives.values())

    def _send_finals(self) -> None:
        """Each session's next one at once. What a session has behind it goes where a worker is free: audio
        that comes faster than it is spoken waits for its own finals, and makes no other session wait."""
        requests: list[tuple[Live, DecodeRequest]] = []
        num_workers = self._config.interim_budget.num_workers
        self._holds_finals = False
        for live in self._lives.values():
            num_own = live.num_finals
            while live.requests:
                if num_own and self._num_finals + len(requests) >= num_workers:
                    self._holds_finals = True
                    break
                requests.append((live, live.requests.popleft()))
                num_own += 1
        self._send(requests)

    def _offer_soon(self) -> None:
        """Once for all answers of this turn of the loop."""
        if not self._offering:
            self._offering = True
            asyncio.get_running_loop().call_soon(self._offer_optional_work)

    def _offer_optional_work(self) -> None:
        """Send speculative finals and interims as far as there is room."""
        self._offering = False
        if self._config.speculative_finals and self._ladder.rung < Rung.NO_SPECULATION:
            self._offer_speculative()
        self._offer_interims()

    def _offer_speculative(self) -> None:
        requests: list[tuple[Live, DecodeRequest]] = []
        for live in self._lives.values():
            room = self._config.max_speculative_in_flight - self._num_finals - len(requests)
            if room <= 0:
                break
            request = live.session.speculative_request()
            if request is not None:
                requests.append((live, request))
        self._send(requests)

    def _offer_interims(self) -> None:
        now_s = self._clock()
        if not self._gate.may_send(now_s, self._num_finals):
            return
        due = [(live.session.interim_age_samples, live) for live in self._lives.values()]
        due = sorted((item for item in due if item[0] > 0), key=lambda item: -item[0])
        longest = ms_to_samples(self._config.max_interim_window_ms * self._gate.window_share)
        requests: list[tuple[Live, DecodeRequest]] = []
        for _, live in due:
            if not self._gate.may_send(now_s, self._num_finals):
                break
            request = live.session.interim_request(longest)
            if request is not None:
                self._gate.sent()
                requests.append((live, request))
        self._send(requests)

    # -- calls to the recognisers ----------------------------------------------------------------

    def _send(self, requests: list[tuple[Live, DecodeRequest]]) -> None:
        if not requests:
            return
        jobs: list[DecodeJob] = []
        for live, request in requests:
            self._next_job_id += 1
            trace = (
                None
                if live.trace is None
                else live.trace.decode(request.purpose.value, request.start_sample, request.end_sample)
            )
            self._in_flight[self._next_job_id] = _InFlight(live, request, self._clock(), trace)
            self._silence.asked(live)
            if request.purpose is not Purpose.INTERIM:
                self._num_finals += 1
                live.num_finals += 1
                self._backlog_s += request.job.audio_s
                self._estimate.heard(request.job.audio_s)
            job = replace(
                request.job,
                job_id=self._next_job_id,
                beam_size=self._beam_size(request.job),
                model=self._model(request),
                trace="" if trace is None else trace.parent,
            )
            jobs.append(job)
        on_interim = [job for job in jobs if (job.model or job.role) is Role.INTERIM]
        on_final = [job for job in jobs if (job.model or job.role) is not Role.INTERIM]
        for port, its_jobs in ((self._interim, on_interim), (self._final, on_final)):
            if its_jobs:
                call = asyncio.create_task(self._call(port, its_jobs))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)

    def _beam_size(self, job: DecodeJob) -> int:
        if job.attention is not None:
            return 1  # the rule follows one hypothesis
        return self._config.interim_beam_size if job.role is Role.INTERIM else self._config.beam_size

    def _model(self, request: DecodeRequest) -> Role | None:
        """Under the heaviest load the interim model's, where it is another and can do it."""
        job = request.job
        smaller = self._ladder.rung >= Rung.SMALLER_FINALS and request.purpose is not Purpose.INTERIM
        if smaller and job.model is None and job.attention is None and self._smaller_knows(job):
            return Role.INTERIM
        return job.model

    async def _call(self, port: RecogniserPort, jobs: list[DecodeJob]) -> None:
        """The outermost shell of a call: its jobs are answered though it fails in any way."""
        try:
            async for result in decode_reliably(port, jobs, self._counters.retried):
                self._answer(result)
        except Exception:
            log.exception("decode call failed", num_jobs=len(jobs))
            for job in jobs:
                self._answer(DecodeFailure(job.job_id, "internal error", retryable=True))

    def _answer(self, result: DecodeResult) -> None:
        flight = self._in_flight.pop(result.job_id, None)
        if flight is None:
            return
        if flight.trace is not None:
            flight.trace.answered(result)
        request, session = flight.request, flight.live.session
        self._silence.answered(flight.live)
        now_s = self._clock()
        total_ms = (now_s - flight.sent_s) * 1000
        timing = result.timing if isinstance(result, Transcript) else DecodeTiming()
        if request.purpose is Purpose.INTERIM:
            self._gate.answered(timing.queue_wait_ms, timing.inference_ms / timing.batch_size)
        else:
            self._num_finals -= 1
            flight.live.num_finals -= 1
            self._backlog_s -= request.job.audio_s
            if isinstance(result, Transcript):
                inference_ms = timing.inference_ms / timing.batch_size
                self._ladder.final_answered(timing.queue_wait_ms, inference_ms, request.job.audio_s, now_s)
        self._counters.decoded(request.purpose, result, total_ms)
        if isinstance(result, Transcript):
            flight.live.apply(session.on_decoded(request.key, result, total_ms))
        else:
            flight.live.apply(session.on_decode_failed(request.key, result.message))
        if flight.live.requests or self._holds_finals:
            self._send_finals()
        self._offer_soon()
        self.wake()
