"""Which language a session speaks, from what its utterances were detected as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serve_app.core.jobs import LanguageHint

LOCK_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class LanguageOptions:
    """`fixed`: a Whisper code, or None to detect one, of `among` alone where that is not empty. Detected, it
    is locked after `lock_s` seconds of evidence, or never where `lock_s` is None: every utterance may then be
    in a language of its own."""

    fixed: str | None = None
    lock_s: float | None = None
    among: tuple[str, ...] = ()


class LanguageTracker:
    """Locks a language once it has enough evidence: seconds of audio weighted by probability.

    One language needs `lock_s` of it and `LOCK_RATIO` times as much as any other. Until then the evidence is
    a hint for the next utterance, so that a short one cannot overturn it. It is small and goes into the
    checkpoint.
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
    def likeliest(self) -> str | None:
        """The language with the most evidence; None where there is none."""
        if self.locked is not None or not self._evidence:
            return self.locked
        return max(sorted(self._evidence), key=lambda code: self._evidence[code])

    @property
    def is_open(self) -> bool:
        """Whether the next utterance has a say in the language of those behind it."""
        return self.locked is None

    @property
    def evidence(self) -> Mapping[str, float]:
        return self._evidence

    @property
    def hint(self) -> LanguageHint:
        """What a decode that has to detect the language is told."""
        return LanguageHint(self._options.among, tuple(sorted(self._evidence.items())))

    def observe(self, language: str, probability: float, audio_s: float) -> None:
        """Count one utterance whose text is believed; after a lock nothing changes any more."""
        if self.is_open:
            known = self._evidence.get(language, 0.0)
            self._evidence = MappingProxyType({**self._evidence, language: known + probability * audio_s})
