"""Who speaks in the live sessions of one ingress replica: windows out to the diarizer, voices back.

One call carries the windows of several sessions. One is on its way at a time, with sessions whose
finals wait for a name first, then those that have waited longest; the rest come with their newest audio in
a later one. So load makes the steps longer and labels later, and takes nothing from text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog

from serve_app.core.errors import SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.service.live import Live
from serve_app.service.ports import SpeakerPort
from serve_app.service.retries import listen_reliably
from serve_app.session.speakers import SpeakerRequest

log = structlog.get_logger(__name__)

MAX_WINDOWS_PER_CALL = 4
"""On a GPU. More would only make the first of them wait for the last, as any second one does on a CPU."""
PATIENCE_S = 30.0
"""So long a session that has said everything waits for the names of its last speakers."""


class Listening:
    """Sends the windows that are due, `max_windows` in a call; `wake` hears that there was an answer."""

    def __init__(
        self,
        port: SpeakerPort,
        *,
        wake: Callable[[], None],
        on_retry: Callable[[], None],
        on_answer: Callable[[float, int], None],
        step_s: float,
        max_windows: int,
        clock: Callable[[], float],
    ) -> None:
        self._port = port
        self._wake = wake
        self._on_retry = on_retry
        self._on_answer = on_answer
        self._step_samples = round(step_s * SAMPLE_RATE_HZ)
        self._max_windows = max_windows
        self._clock = clock
        self._on_its_way: asyncio.Task[None] | None = None
        self._is_warm = False
        self._served_s: dict[str, float] = {}
        self._waits_since_s: dict[str, float] = {}

    def offer(self, lives: Iterable[Live]) -> None:
        """Send what is due, unless a call is on its way."""
        listening = [live for live in lives if live.session.speakers is not None and not live.session.ended]
        if not listening:
            self._served_s.clear()
            return
        self._give_up_on_late(listening)
        if not self._is_warm:
            # The models load while the first speaker draws breath.
            self._is_warm = True
            self._start([])
        if self._on_its_way is None and (batch := self._batch(listening)):
            self._start(batch)
        known = {live.session_id for live in listening}
        self._served_s = {name: at for name, at in self._served_s.items() if name in known}

    async def close(self) -> None:
        """Cancel what is on its way."""
        call = self._on_its_way
        if call is not None:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    def _start(self, batch: list[tuple[Live, SpeakerRequest]]) -> None:
        self._on_its_way = asyncio.create_task(self._call(batch))
        self._on_its_way.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        """There is room for another."""
        self._on_its_way = None
        self._wake()

    def _batch(self, lives: list[Live]) -> list[tuple[Live, SpeakerRequest]]:
        batch: list[tuple[Live, SpeakerRequest]] = []
        for live in sorted(lives, key=self._turn):
            speakers = live.session.speakers
            request = None if speakers is None else speakers.request(self._step_samples)
            if request is not None:
                self._served_s[live.session_id] = self._clock()
                batch.append((live, request))
            if len(batch) == self._max_windows:
                break
        return batch

    def _turn(self, live: Live) -> tuple[bool, float]:
        speakers = live.session.speakers
        is_urgent = speakers is not None and speakers.is_urgent
        return not is_urgent, self._served_s.get(live.session_id, 0.0)

    async def _call(self, batch: list[tuple[Live, SpeakerRequest]]) -> None:
        """The outermost shell of a call: its sessions go on though it fails in any way."""
        began_s = self._clock()
        try:
            voices = await listen_reliably(self._port, [r.window for _, r in batch], self._on_retry)
        except SottoError as error:
            log.warning("no speakers for some windows", num_windows=len(batch), reason=str(error))
            voices = []
        except Exception:
            log.exception("diarization call failed", num_windows=len(batch))
            voices = []
        for index, (live, _) in enumerate(batch):
            speakers = live.session.speakers
            if speakers is None or live.session.ended:
                continue
            live.apply(speakers.on_voices(voices[index]) if index < len(voices) else speakers.on_failed())
        self._on_answer((self._clock() - began_s) * 1000, len(batch))

    def _give_up_on_late(self, lives: list[Live]) -> None:
        now_s = self._clock()
        waiting = {live.session_id: live for live in lives if live.session.waits_for_speakers}
        if waiting.keys() - self._waits_since_s.keys():
            # Nothing else may wake the conductor while a call hangs.
            asyncio.get_running_loop().call_later(PATIENCE_S + 0.1, self._wake)
        self._waits_since_s = {name: self._waits_since_s.get(name, now_s) for name in waiting}
        for name, live in waiting.items():
            late = now_s - self._waits_since_s[name] >= PATIENCE_S
            if late and live.session.speakers is not None:
                live.apply(live.session.speakers.give_up())
