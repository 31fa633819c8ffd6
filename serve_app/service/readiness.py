"""Whether every deployment has a replica with its models loaded, by what they answered last."""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import monotonic

LOST_AFTER_S = 15.0
"""Three rounds of questions: a replica whose machine is busy answers one of them."""


class Readiness:
    """Deployments by name: `required` ones, without which the service is not ready, and `optional` ones,
    which it can do without for most of its work."""

    def __init__(
        self,
        required: Collection[str] = (),
        optional: Collection[str] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._required = tuple(required)
        self._all = (*required, *optional)
        self._clock = clock
        self._answered_s: dict[str, float] = {}

    def answered(self, name: str) -> None:
        """It has a replica whose models are loaded."""
        self._answered_s[name] = self._clock()

    @property
    def silent(self) -> tuple[str, ...]:
        """Those that have not answered yet, or not for `LOST_AFTER_S`."""
        since_s = self._clock() - LOST_AFTER_S
        return tuple(name for name in self._all if self._answered_s.get(name, -1e9) < since_s)

    @property
    def ready(self) -> bool:
        return not set(self._required) & set(self.silent)
