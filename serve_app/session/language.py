"""Which language a session speaks, from what its utterances were detected as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

LOCK_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class LanguageOptions:
    """`fixed`: a Whisper code, or None to detect. Detected, it is locked after `lock_s` seconds of
    evidence, or never where `lock_s` is None: every utterance is then in a language of its own."""

    fixed: str | None = None
    lock_s: float | None = None


class LanguageTracker:
    """Locks a language once it has enough evidence: seconds of audio weighted by probability.

    One language needs `lock_s` of it and `LOCK_RATIO` times as much as any other. The evidence is small
    and goes into the checkpoint.
    """

    def __init__(self, options: LanguageOptions, evidence: Mapping[str, float] | None = None) -> None:
        self._options = options
        self._evidence: Mapping[str, float] = MappingProxyType(dict(evidence or {}))

    @property
    def locked(self) -> str | None:
        """The language to decode in, or None while it has to be detected."""
        if self._options.fixed is not None or self._options.lock_s is None:
            return self._options.fixed
        ranked = sorted(self._evidence.items(), key=lambda item: (-item[1], item[0]))
        if not ranked or ranked[0][1] < self._options.lock_s:
            return None
        runner_up = ranked[1][1] if len(ranked) > 1 else 0.0
        return ranked[0][0] if ranked[0][1] >= LOCK_RATIO * runner_up else None

    @property
    def is_open(self) -> bool:
        """Whether the next utterance may decide the language of those behind it."""
        return self.locked is None and self._options.lock_s is not None

    @property
    def evidence(self) -> Mapping[str, float]:
        return self._evidence

    def observe(self, language: str, probability: float, audio_s: float) -> None:
        """Count one utterance; after the lock nothing changes any more."""
        if self.is_open:
            known = self._evidence.get(language, 0.0)
            self._evidence = MappingProxyType({**self._evidence, language: known + probability * audio_s})
