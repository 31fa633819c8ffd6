"""How many live sessions one card holds, by its measured batches: a simulated queue of finals and interims.

One worker. Sessions speak in utterances; each ends in a final, and while it lasts asks for an interim of
its newest seconds once a second. Finals go first; of a session only the newest interim waits. Batches take
equal windows, as many as allowed. A card is full where the 95th percentile of finals passes its bar.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from benchmarks.gpu.batches import Point

MAX_SESSIONS = 8_192
"""No more are tried."""


@dataclass(frozen=True, slots=True)
class Talk:
    """How people speak, and what is good enough. `speech_share` of a session is speech, in utterances of
    `utterance_s` on average; interims every `interim_every_s` over at most `interim_window_s`."""

    speech_share: float = 0.5
    utterance_s: float = 4.0
    interim_every_s: float = 1.0
    interim_window_s: float = 8.0
    final_p95_bar_s: float = 0.5
    interims_done_bar: float = 0.5
    seconds: float = 60.0
    max_batch: int = 8


class Load(NamedTuple):
    """What a number of sessions saw. `interims_done`: the share of those asked for."""

    num_sessions: int
    final_p50_s: float
    final_p95_s: float
    interims_done: float
    busy_share: float

    def good(self, talk: Talk) -> bool:
        return self.final_p95_s <= talk.final_p95_bar_s and self.interims_done >= talk.interims_done_bar


class BatchTimes:
    """Seconds of a batch, from measured points; what lies between two counts as the next larger one. Windows
    beyond the longest are lengthened in proportion."""

    def __init__(self, points: Sequence[Point]) -> None:
        if not points:
            raise ValueError("no measured batches")
        self._by_window: dict[float, list[tuple[int, float]]] = {}
        for point in sorted(points, key=lambda point: (point.audio_s, point.batch)):
            self._by_window.setdefault(point.audio_s, []).append((point.batch, point.latency_s))
        self._windows = sorted(self._by_window)
        self.max_batch = min(times[-1][0] for times in self._by_window.values())

    def window_of(self, audio_s: float) -> float:
        """The class of a window: such share a batch."""
        return next((window for window in self._windows if window >= audio_s), self._windows[-1])

    def seconds(self, window_s: float, batch: int, longest_s: float) -> float:
        times = self._by_window[window_s]
        busy_s = next((seconds for size, seconds in times if size >= batch), times[-1][1])
        return busy_s * max(1.0, longest_s / window_s)


class _Job(NamedTuple):
    arrival_s: float
    session: int
    audio_s: float
    is_final: bool


def most_sessions(times: BatchTimes, talk: Talk) -> Load:
    """The largest load that is good, within 2 %; 0 sessions where not even one is."""
    best, bad = Load(0, 0.0, 0.0, 0.0, 0.0), 1
    while bad <= MAX_SESSIONS and (load := simulate(times, talk, bad)).good(talk):
        best, bad = load, 2 * bad
    while bad - best.num_sessions > max(1, best.num_sessions // 50):
        load = simulate(times, talk, (best.num_sessions + bad) // 2)
        if load.good(talk):
            best = load
        else:
            bad = load.num_sessions
    return best


def simulate(times: BatchTimes, talk: Talk, num_sessions: int, *, seed: int = 0) -> Load:
    """Sessions on one worker. With the same seed a session says the same, however many there are."""
    jobs = sorted(job for session in range(num_sessions) for job in _session(talk, session, seed))
    queue = _Queue(times, min(talk.max_batch, times.max_batch))
    latencies: list[float] = []
    num_interims = sum(not job.is_final for job in jobs)
    interims_done = 0
    now_s = busy_s = 0.0
    upcoming = iter(jobs)
    following = next(upcoming, None)
    while following is not None or queue.waits:
        if not queue.waits and following is not None:
            now_s = max(now_s, following.arrival_s)
        while following is not None and following.arrival_s <= now_s:
            queue.add(following)
            following = next(upcoming, None)
        batch, seconds = queue.take()
        now_s += seconds
        busy_s += seconds
        for job in batch:
            if job.is_final:
                latencies.append(now_s - job.arrival_s)
            else:
                interims_done += 1
    p50_s, p95_s = np.percentile(latencies, (50, 95)) if latencies else (0.0, 0.0)
    done = interims_done / num_interims if num_interims else 1.0
    return Load(num_sessions, float(p50_s), float(p95_s), done, busy_s / max(now_s, talk.seconds))


def _session(talk: Talk, session: int, seed: int) -> Iterator[_Job]:
    rng = np.random.default_rng((seed, session))
    pause_s = talk.utterance_s * (1 - talk.speech_share) / talk.speech_share
    now_s = float(rng.uniform(0, talk.utterance_s + pause_s))
    while now_s < talk.seconds:
        length_s = float(np.clip(rng.gamma(2.0, talk.utterance_s / 2), 0.5, 28.0))
        asked_s = talk.interim_every_s
        while asked_s < length_s:
            yield _Job(now_s + asked_s, session, min(asked_s, talk.interim_window_s), False)
            asked_s += talk.interim_every_s
        yield _Job(now_s + length_s, session, length_s, True)
        now_s += length_s + float(rng.exponential(pause_s)) if pause_s else length_s


class _Queue:
    """Finals by age, then interims by age, the newest of a session only."""

    def __init__(self, times: BatchTimes, max_batch: int) -> None:
        self._times = times
        self._max_batch = max_batch
        self._finals: dict[float, list[_Job]] = {}
        # Of each window, sessions by the age of what they ask for: a newer one goes to the end.
        self._interims: dict[float, dict[int, _Job]] = {}
        self._window_of_session: dict[int, float] = {}

    @property
    def waits(self) -> bool:
        return bool(self._window_of_session) or any(self._finals.values())

    def add(self, job: _Job) -> None:
        old_window_s = self._window_of_session.pop(job.session, None)
        if old_window_s is not None:
            del self._interims[old_window_s][job.session]
        window_s = self._times.window_of(job.audio_s)
        if job.is_final:
            heapq.heappush(self._finals.setdefault(window_s, []), job)
        else:
            self._interims.setdefault(window_s, {})[job.session] = job
            self._window_of_session[job.session] = window_s

    def take(self) -> tuple[list[_Job], float]:
        """The next batch and its seconds."""
        finals = [(heap[0], window_s) for window_s, heap in self._finals.items() if heap]
        if finals:
            _, window_s = min(finals)
            heap = self._finals[window_s]
            batch = [heapq.heappop(heap) for _ in range(min(self._max_batch, len(heap)))]
        else:
            firsts = [
                (next(iter(jobs.values())), window_s) for window_s, jobs in self._interims.items() if jobs
            ]
            _, window_s = min(firsts)
            batch = list(islice(self._interims[window_s].values(), self._max_batch))
            for job in batch:
                del self._interims[window_s][job.session], self._window_of_session[job.session]
        longest_s = max(job.audio_s for job in batch)
        return batch, self._times.seconds(window_s, len(batch), longest_s)
