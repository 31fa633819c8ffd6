"""How many people may talk at once here: from what the recogniser measured, and how much they then talk.

    cores * BUSY = FIXED + speakers * (SESSION + speech_share * cost of a second of final audio)

On a CPU all of the service shares the cores: the parts beside the recogniser were measured with
`benchmarks.live.sessions` (two cores, 12 and 24 sessions; docs/decisions.md). On a card only the decoding
counts. Interims are not in it: at the limit they have given way (`capacity.ladder`).

Running, the figure follows two things: a decode that takes longer than at the start, where somebody else uses
the machine, and people who talk less, or more, than was assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from serve_app.capacity.plan import Speaking

BUSY = 0.75
"""Of the cores, so that finals are in time: short utterances cost more than the measured ones, and interims
and speculation keep some of their share."""
BUSY_CARD = 0.65
"""Of a card, where no capacity was measured."""
FIXED_CORES = 0.10
"""Ray and the proxy, without any session."""
SESSION_CORES = 0.009
"""Ingress with voice detection, and proxy, per session."""
TALK_TIME_S = 120.0
PRIOR_TIME_S = 60.0
"""The weight of the assumed share of speech, as seconds of each session: a session that has just begun has no
final yet, which does not make its speaker a silent one."""
SLOWER = 0.9
"""Decodes that are slower than expected by less than this share are noise."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Of finals, seconds of audio per second, all workers of one replica together: at the start, and of late
    (0: not known). `cpu_s`: CPU time of a second of audio."""

    at_start: float
    cpu_s: float
    of_late: float = 0.0


def speakers_at_once(
    speed: Speed, *, cores: float | None, speech_share: float = Speaking().speech_share
) -> int:
    """`cores`: of the machine, where all of the service shares them; None on a card of its own. At least 1, 0
    where nothing was measured."""
    if speed.at_start <= 0:
        return 0
    if cores is None:
        return max(1, math.floor(BUSY_CARD * speed.at_start / speech_share))
    # What the workers got of the cores while they had them to themselves: less, under a quota.
    had = min(cores, speed.at_start * speed.cpu_s) if speed.cpu_s > 0 else cores
    cost = SESSION_CORES + speech_share * had / speed.at_start
    return max(1, math.floor((BUSY * had - FIXED_CORES) / cost))


class SpeakerEstimate:
    """`speakers_at_once`, corrected by what is seen of live sessions."""

    def __init__(self, cores: float | None, now_s: float) -> None:
        self._cores = cores
        self._seen_s = now_s
        self._session_s = 0.0
        self._talk_s = 0.0
        self._num_sessions = 1

    @property
    def speech_share(self) -> float:
        """How much of a session is speech that finals are decoded from."""
        prior_s = PRIOR_TIME_S * self._num_sessions
        talk_s = self._talk_s + prior_s * Speaking().speech_share
        return min(1.0, talk_s / (self._session_s + prior_s))

    def heard(self, audio_s: float) -> None:
        """A final of so many seconds was asked for."""
        self._talk_s += audio_s

    def passed(self, num_sessions: int, now_s: float) -> None:
        """So many sessions were open since the last call."""
        elapsed_s, self._seen_s = max(0.0, now_s - self._seen_s), now_s
        if num_sessions:
            self._num_sessions = num_sessions
            kept = math.exp(-elapsed_s / TALK_TIME_S)
            self._session_s = self._session_s * kept + elapsed_s * num_sessions
            self._talk_s *= kept

    def speakers(self, speed: Speed, num_sessions: int) -> int:
        """As of now; 0: not known."""
        at_start = speakers_at_once(speed, cores=self._cores, speech_share=self.speech_share)
        if not at_start or speed.of_late <= 0:
            return at_start
        ratio = speed.of_late / (speed.at_start * self._left_for_decoding(num_sessions))
        return at_start if ratio >= SLOWER else max(1, math.floor(at_start * ratio / SLOWER))

    def _left_for_decoding(self, num_sessions: int) -> float:
        """The share of the cores that sessions leave to the workers: their own load is no slowness."""
        if self._cores is None:
            return 1.0
        return max(0.2, 1.0 - (FIXED_CORES + num_sessions * SESSION_CORES) / self._cores)
