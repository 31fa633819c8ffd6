"""How good the text is and how late it came."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Self

import jiwer
import numpy as np

UNSPACED_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my"})
"""Written without spaces between words: their errors are counted in characters, as Whisper's paper does."""


@cache
def _normaliser(language: str) -> Any:
    if language == "en":
        from whisper_normalizer.english import EnglishTextNormalizer

        return EnglishTextNormalizer()
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(split_letters=language in UNSPACED_LANGUAGES)


def normalise(text: str, language: str = "en") -> str:
    """Whisper's own normalisation: of English case, punctuation, numbers, contractions and spelling, of other
    languages case and punctuation."""
    return str(_normaliser(language)(text)).strip()


class Summed:
    """For dataclasses: two of one class add up field by field."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        names = [each.name for each in fields(self)]  # type: ignore[arg-type]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True, slots=True)
class WordErrors(Summed):
    num_words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Errors over reference words, a fraction; may exceed 1."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.num_words if self.num_words else float(errors > 0)


def word_errors(references: Sequence[str], hypotheses: Sequence[str], language: str = "en") -> WordErrors:
    """Over all pairs together, normalised; pairs whose reference has no words count their insertions."""
    texts = zip(references, hypotheses, strict=True)
    pairs = [(normalise(a, language), normalise(b, language)) for a, b in texts]
    spoken = [(a, b) for a, b in pairs if a]
    extra = sum(len(b.split()) for a, b in pairs if not a)
    if not spoken:
        return WordErrors(0, 0, 0, extra)
    measured = jiwer.process_words([a for a, _ in spoken], [b for _, b in spoken])
    num_words = measured.hits + measured.substitutions + measured.deletions
    return WordErrors(num_words, measured.substitutions, measured.deletions, measured.insertions + extra)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of milliseconds; None where nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles:
        data = np.asarray(list(values), dtype=np.float64)
        if not len(data):
            return cls(None, None, None, 0)
        p50, p95, p99 = (round(float(value), 1) for value in np.percentile(data, [50, 95, 99]))
        return cls(p50, p95, p99, len(data))

    def to_json(self) -> dict[str, float | int | None]:
        return asdict(self)

    def __str__(self) -> str:
        if self.p50 is None:
            return "-"
        return f"{self.p50:.0f} / {self.p95:.0f} / {self.p99:.0f}"
