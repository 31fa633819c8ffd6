"""The voice detector in the ingress' own process, where its cores are those of the models anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic

import structlog

from serve_app.core.errors import ReplicaUnhealthy
from serve_app.service.ports import ReplicaLost
from serve_app.vad.detector import VadRequest, VadResult, pack_requests, unpack_results
from serve_app.vad.host import VoiceHost

log = structlog.get_logger(__name__)

SOUND_AGAIN_S = 600.0
"""Where a successor fails sooner than this, loading another one is no cure."""


class LocalVoice:
    """A `VoicePort` onto a `VoiceHost` of this process. Used from one event loop, which it never blocks.

    The process holds connections, so a detector at fault does not end it: another one is loaded beside it,
    and sessions wait for that as they wait for a lost replica. Only where that fails too does `check` raise.
    """

    def __init__(self, load: Callable[[], VoiceHost], *, clock: Callable[[], float] = monotonic) -> None:
        """`load` is called here, and on a thread for every successor. Raises `ModelUnavailable`."""
        self._load = load
        self._clock = clock
        self._host = load()
        self._renewed_s: float | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._fault = ""

    async def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One answer per request, in order. Raises `ReplicaLost`."""
        host = self._host
        batch = pack_requests(requests, host.state_shape)
        try:
            return unpack_results(await host.detect(batch))
        except ReplicaUnhealthy as fault:
            raise ReplicaLost(str(fault)) from None
        except Exception as error:
            # The detector's own fault, whatever it raises: it must end neither the conductor nor a session.
            host.give_up(f"the voice detector failed with {type(error).__name__}")
            self._renew(host)
            raise ReplicaLost("the voice detector failed") from error

    async def describe(self) -> None:
        """Returns where the detector is loaded and hears. Raises `ReplicaLost`."""
        try:
            self._host.require_healthy()
        except ReplicaUnhealthy as fault:
            raise ReplicaLost(str(fault)) from None

    def check(self) -> None:
        """To be called every few seconds, on the loop. Raises `ReplicaUnhealthy` once a detector that was put
        in another's place is at fault as well, or cannot be loaded."""
        if self._fault:
            raise ReplicaUnhealthy(self._fault)
        host = self._host
        try:
            host.check()
        except ReplicaUnhealthy:
            self._renew(host)

    def _renew(self, host: VoiceHost) -> None:
        """Put another detector in the place of `host`, unless that has been done already."""
        if self._renewing is not None or host is not self._host or self._fault:
            return
        now_s = self._clock()
        if self._renewed_s is not None and now_s - self._renewed_s < SOUND_AGAIN_S:
            self._fault = "the voice detector failed twice"
            log.error("the voice detector failed twice")
            return
        self._renewed_s = now_s
        self._renewing = asyncio.get_running_loop().create_task(self._load_another())

    async def _load_another(self) -> None:
        try:
            self._host = await asyncio.to_thread(self._load)
            log.warning("another voice detector was loaded")
        except Exception as error:
            self._fault = f"no other voice detector could be loaded: {type(error).__name__}"
            log.error("no other voice detector could be loaded", error=type(error).__name__)
        finally:
            self._renewing = None
