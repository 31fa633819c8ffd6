"""Which language a session speaks, from what its utterances were detected as."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LOCK_EVIDENCE_S = 4.0
LOCK_RATIO = 2.0


class LanguageTracker:
    """Locks a language once it has enough evidence: seconds of audio weighted by probability.

    A fixed language is locked from the start. One language needs `LOCK_EVIDENCE_S` and
    `LOCK_RATIO` times as much as any other. The evidence is small and goes into the checkpoint.
    """

    def __init__(self, fixed: str | None = None, evidence: Mapping[str, float] | None = None) -> None:
        self._fixed = fixed
        self._evidence: Mapping[str, float] = MappingProxyType(dict(evidence or {}))

    @property
    def locked(self) -> str | None:
        """The language to decode in, or None while it has to be detected."""
        if self._fixed is not None:
            return self._fixed
        ranked = sorted(self._evidence.items(), key=lambda item: (-item[1], item[0]))
        if not ranked or ranked[0][1] < LOCK_EVIDENCE_S:
            return None
        runner_up = ranked[1][1] if len(ranked) > 1 else 0.0
        return ranked[0][0] if ranked[0][1] >= LOCK_RATIO * runner_up else None

    @property
    def evidence(self) -> Mapping[str, float]:
        return self._evidence

    def observe(self, language: str, probability: float, audio_s: float) -> None:
        """Count one utterance; after the lock nothing changes any more."""
        if self.locked is None:
            known = self._evidence.get(language, 0.0)
            self._evidence = MappingProxyType({**self._evidence, language: known + probability * audio_s})
