"""Simulated ingress replicas: the conductor's turns around the real interim gate, without sockets and sound.

As in `serve_app.service.conductor`: one voice call per tick for all sessions, finals at once, speculative
finals while the finals' queue is short, interims as far as the gate lets them, the longest waiting first.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from itertools import count

from benchmarks.simulation.replicas import Clock, Fleet, Job
from benchmarks.simulation.sessions import (
    DoorShape,
    FinalJob,
    InterimJob,
    Pending,
    Results,
    SimulatedSession,
    Utterance,
)
from benchmarks.simulation.talk import Moment, Talk, VoiceMoment
from serve_app.capacity.ladder import Ladder, Rung
from serve_app.service.conductor import ConductorConfig
from serve_app.session.backpressure import InterimGate

ALWAYS_AWAKE = 32
"""With this many sessions there is always a chunk that has come since the last tick."""


class VoicePool:
    """The voice activity replicas: each takes one call at a time."""

    def __init__(self, clock: Clock, shape: DoorShape) -> None:
        self._clock = clock
        self._shape = shape
        self._free_s = [0.0] * shape.num_voice_replicas

    def answer_after(self, num_sessions: int) -> float:
        """When a call for this number of sessions, made now, comes back."""
        index = min(range(len(self._free_s)), key=self._free_s.__getitem__)
        busy_s = self._shape.voice_fixed_s + self._shape.voice_per_session_s * num_sessions
        self._free_s[index] = max(self._free_s[index], self._clock.now_s) + busy_s
        return self._free_s[index]


class Ingress:
    """One ingress replica with its sessions and its conductor."""

    def __init__(
        self,
        clock: Clock,
        config: ConductorConfig,
        door: DoorShape,
        *,
        voice: VoicePool,
        final: Fleet,
        interim: Fleet,
        results: Results,
        dice: random.Random,
    ) -> None:
        self._dice = dice
        self._clock, self._config, self._door = clock, config, door
        self._voice, self._final, self._interim = voice, final, interim
        self._results = results
        self._gate = InterimGate(config.interim_budget, 0.0)
        self._ladder = Ladder(config.ladder, 0.0)
        self._backlog_s = 0.0
        self._sessions: dict[SimulatedSession, None] = {}
        self._moments: list[tuple[float, int, SimulatedSession, VoiceMoment]] = []
        self._wanted_interims: list[tuple[float, int, SimulatedSession, Utterance]] = []
        self._wanted_speculations: dict[SimulatedSession, None] = {}
        self._order = count()
        self._num_finals = 0
        self._polled_s = 0.0
        self._earliest_s = 0.0
        self._due_s: float | None = math.inf
        """When the next tick is due; infinite while no session talks, None during a tick."""
        self._woken = False
        self._tick_number = 0
        self._offering = False

    def add(self, talk: Talk, begin_s: float) -> None:
        self._clock.at(begin_s, self._begin, SimulatedSession(talk, begin_s))

    def _begin(self, session: SimulatedSession) -> None:
        self._results.num_active += 1
        self._sessions[session] = None
        self._expect_moment(session)
        self._clock.at(session.begin_s + session.talk.duration_s, self._leave, session)
        self._wake()

    def _expect_moment(self, session: SimulatedSession) -> None:
        """The session's next moment, for when the chunk that holds it is here."""
        if session.next_moment < len(session.talk.moments):
            moment = session.talk.moments[session.next_moment]
            session.next_moment += 1
            ready_s = session.sent_s(moment.at_s, self._door.chunk_s) + self._door.door_s / 2
            heapq.heappush(self._moments, (ready_s, next(self._order), session, moment))

    def _leave(self, session: SimulatedSession) -> None:
        self._results.num_active -= 1
        self._sessions.pop(session, None)
        session.utterance = None

    # -- ticks -----------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Something is new: tick as soon as the last tick is long enough ago."""
        self._woken = True
        if self._due_s is not None:
            self._tick_at(min(self._due_s, max(self._clock.now_s, self._earliest_s)))

    def _tick_at(self, when_s: float) -> None:
        self._due_s = when_s
        self._tick_number += 1
        self._clock.at(when_s, self._tick, self._tick_number)

    def _tick(self, number: int) -> None:
        if number != self._tick_number:
            return  # it was put forward
        began_s, before_s = self._clock.now_s, self._polled_s
        self._ladder.step(began_s, num_finals=self._num_finals, backlog_s=self._backlog_s)
        self._gate.relief, self._gate.paused = self._ladder.relief, self._ladder.rung >= Rung.NO_INTERIMS
        self._woken, self._due_s, self._polled_s = False, None, began_s
        num_asked = self._num_with_news(before_s, began_s)
        if num_asked:
            self._clock.at(self._voice.answer_after(num_asked), self._heard, began_s)
        else:
            self._heard(began_s)

    def _num_with_news(self, before_s: float, now_s: float) -> int:
        """How many sessions have new windows; of many, as many as chunks come in the meantime."""
        chunk_s, half_s = self._door.chunk_s, self._door.door_s / 2
        if len(self._sessions) >= ALWAYS_AWAKE:
            return math.ceil(len(self._sessions) * min(1.0, (now_s - before_s) / chunk_s))
        return sum(
            session.heard_s(now_s - half_s, chunk_s) > session.heard_s(before_s - half_s, chunk_s)
            for session in self._sessions
        )

    def _heard(self, began_s: float) -> None:
        finals: list[FinalJob] = []
        num_closed = 0
        while self._moments and self._moments[0][0] <= began_s:
            _, _, session, moment = heapq.heappop(self._moments)
            self._expect_moment(session)
            num_closed += moment.kind is Moment.CLOSED
            self._follow(session, moment, finals)
        self._send(finals)
        self._offer()
        if num_closed:  # what came after the endpoint is heard again, from there
            self._clock.at(self._voice.answer_after(num_closed), self._sleep, began_s)
        else:
            self._sleep(began_s)

    def _sleep(self, began_s: float) -> None:
        """Until the next tick is due and there is something new."""
        self._earliest_s = max(self._clock.now_s, began_s + self._config.tick_s)
        if self._woken or len(self._sessions) >= ALWAYS_AWAKE:
            self._tick_at(self._earliest_s)
        elif self._sessions:
            next_chunk_s = min(self._next_chunk_s(session, began_s) for session in self._sessions)
            self._tick_at(max(self._earliest_s, next_chunk_s))
        else:
            self._due_s = math.inf

    def _next_chunk_s(self, session: SimulatedSession, after_s: float) -> float:
        chunk_s, half_s = self._door.chunk_s, self._door.door_s / 2
        number = math.floor((after_s - half_s - session.begin_s) / chunk_s + 1e-6) + 1
        return session.begin_s + number * chunk_s + half_s

    # -- what voice detection said ---------------------------------------------------------------

    def _follow(self, session: SimulatedSession, moment: VoiceMoment, finals: list[FinalJob]) -> None:
        if moment.kind is Moment.OPENED:
            session.utterance = Utterance(moment.start_s, moment.end_s)
            sent_s = session.sent_s(moment.at_s, self._door.chunk_s)
            self._results.speech_start_ms.append(self._out_ms(sent_s))
            self._want_interim(session)
            return
        utterance = session.utterance
        if utterance is None:
            return
        if moment.kind is Moment.PAUSED:
            utterance.speaking, utterance.pause_end_s = False, moment.end_s
            if self._config.speculative_finals:
                self._wanted_speculations[session] = None
        elif moment.kind is Moment.RESUMED:
            utterance.speaking, utterance.pause_end_s = True, None
            self._wanted_speculations.pop(session, None)
            self._want_interim(session)
        else:
            self._close(session, utterance, moment, finals)

    def _close(
        self,
        session: SimulatedSession,
        utterance: Utterance,
        moment: VoiceMoment,
        finals: list[FinalJob],
    ) -> None:
        self._wanted_speculations.pop(session, None)
        pending = utterance.speculation if utterance.speculated_end_s == moment.end_s else None
        if pending is None:
            pending = Pending()
            finals.append(FinalJob(moment.end_s - moment.start_s, session, pending, None))
        else:
            self._results.num_speculative += 1
        pending.endpoint_sent_s = session.sent_s(moment.at_s, self._door.chunk_s)
        pending.closed = True
        session.finals.append(pending)
        session.utterance = None
        self._deliver(session)

    def _deliver(self, session: SimulatedSession) -> None:
        while session.finals and session.finals[0].done:
            pending = session.finals.popleft()
            self._results.final_ms.append(self._out_ms(pending.endpoint_sent_s))

    def _out_ms(self, sent_s: float) -> float:
        """How late what leaves now is at the client."""
        jitter_s = self._door.jitter_s[self._dice.randrange(len(self._door.jitter_s))]
        return 1000 * (self._clock.now_s + self._door.door_s / 2 + jitter_s - sent_s)

    # -- optional work ---------------------------------------------------------------------------

    def _offer_soon(self) -> None:
        if not self._offering:
            self._offering = True
            self._clock.after(0.0, self._offer)

    def _offer(self) -> None:
        self._offering = False
        if self._wanted_speculations and self._ladder.rung < Rung.NO_SPECULATION:
            self._offer_speculations()
        if self._wanted_interims:
            self._offer_interims()

    def _offer_speculations(self) -> None:
        room = self._config.max_speculative_in_flight - self._num_finals
        jobs: list[FinalJob] = []
        for session in list(self._wanted_speculations):
            if len(jobs) >= room:
                break
            del self._wanted_speculations[session]
            utterance = session.utterance
            if utterance is None or utterance.pause_end_s in (None, utterance.speculated_end_s):
                continue
            assert utterance.pause_end_s is not None
            utterance.speculation = Pending()
            utterance.speculated_end_s = utterance.pause_end_s
            utterance.covered_s = max(utterance.covered_s, utterance.pause_end_s)
            length_s = utterance.pause_end_s - utterance.start_s
            jobs.append(FinalJob(length_s, session, utterance.speculation, utterance))
        self._send(jobs)

    def _want_interim(self, session: SimulatedSession) -> None:
        utterance = session.utterance
        if utterance is not None and utterance.speaking and not utterance.interim_out:
            key = session.begin_s + utterance.covered_s
            heapq.heappush(self._wanted_interims, (key, next(self._order), session, utterance))

    def _offer_interims(self) -> None:
        now_s, wanted = self._clock.now_s, self._wanted_interims
        jobs: list[Job] = []
        longest_s = self._config.max_interim_window_ms / 1000 * self._gate.window_share
        while wanted and self._gate.may_send(now_s, self._num_finals):
            key, _, session, utterance = wanted[0]
            stale = session.utterance is not utterance or not utterance.speaking or utterance.interim_out
            if stale or key != session.begin_s + utterance.covered_s:
                heapq.heappop(wanted)
                continue
            position_s = session.heard_s(self._polled_s - self._door.door_s / 2, self._door.chunk_s)
            if position_s - utterance.covered_s < self._door.partial_interval_s - 1e-9:
                break
            heapq.heappop(wanted)
            fresh_s = position_s - utterance.covered_s
            utterance.interim_out, utterance.covered_s = True, position_s
            audio_s = position_s - max(utterance.start_s, position_s - longest_s)
            self._gate.sent()
            jobs.append(InterimJob(audio_s, fresh_s, session, utterance, position_s))
        if jobs:
            self._interim.call(jobs, self._interim_answered)

    # -- answers ---------------------------------------------------------------------------------

    def _send(self, jobs: Sequence[FinalJob]) -> None:
        if jobs:
            self._num_finals += len(jobs)
            self._backlog_s += sum(job.audio_s for job in jobs)
            self._final.call(jobs, self._final_answered)

    def _final_answered(self, job: Job) -> None:
        assert isinstance(job, FinalJob)
        self._num_finals -= 1
        self._results.num_refused += job.failed
        self._backlog_s -= job.audio_s
        inference_ms = 1000 * job.busy_s / job.batch_size
        self._ladder.final_answered(1000 * job.wait_s, inference_ms, job.audio_s, self._clock.now_s)
        session, pending, utterance = job.session, job.pending, job.utterance
        pending.done = True
        if pending.closed:
            self._deliver(session)
        elif utterance is not None and utterance.speculation is pending:
            end_s = utterance.speculated_end_s
            assert end_s is not None
            self._show(session, utterance, end_s)
        self._offer_soon()
        self._wake()

    def _interim_answered(self, job: Job) -> None:
        assert isinstance(job, InterimJob)
        self._gate.answered(1000 * job.wait_s, 1000 * job.busy_s / job.batch_size)
        self._results.num_refused += job.failed
        job.utterance.interim_out = False
        if job.session.utterance is job.utterance:
            if not job.failed:
                self._show(job.session, job.utterance, job.end_s)
            self._want_interim(job.session)
        self._offer_soon()
        self._wake()

    def _show(self, session: SimulatedSession, utterance: Utterance, end_s: float) -> None:
        if session.utterance is utterance and end_s > utterance.shown_s:
            utterance.shown_s = end_s
            self._results.interim_ms.append(self._out_ms(session.sent_s(end_s, self._door.chunk_s)))
