"""In which language to decode where none is given: what the audio says, weighed with what is known.

Whisper's detection is a guess over 99 languages from one window, and a poor one for short or foreign-sounding
speech: an English sentence of 3.7 s may be Japanese with 65 %. Three things correct it:

    prior       languages stand in the vocabulary in the order of how much Whisper was trained on them; the
                rarer one is, the surer its detection must be
    evidence    seconds of speech that the session or recording has had in a language already
    candidates  where the likeliest is not sure, the two likeliest are decoded and the likelier text is kept

Measured over 154 utterances of 0.3 to 12 s (English, German, Spanish) with `base`: the likeliest language was
right in 144 of them, in 108 of 108 where it had 0.9; in 151 by these rules without evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serve_app.core.jobs import LanguageHint

SURE = 0.9
"""A language of this probability is taken without a second look."""
MAX_CANDIDATES = 2
EVIDENCE_S = 1.0
"""Seconds of speech in a language that double its weight, ..."""
MAX_EVIDENCE_WEIGHT = 20.0
"""... to this at most: a speaker who changes the language is still heard."""
RARITY = 0.5
"""The weight of the n-th language is n to the power of minus this."""
TEXT_WEIGHT = 5.0
"""What the mean log-probability of a token counts for beside that of the language."""
INTERIM_SURE_S = 1.0
INTERIM_COMPARED_S = 3.0
INTERIM_EVIDENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class LanguageGuess:
    """The languages that come into question, with their probability, the likeliest first; never empty."""

    candidates: tuple[tuple[str, float], ...]

    @property
    def likeliest(self) -> tuple[str, float]:
        return self.candidates[0]

    @property
    def sure(self) -> bool:
        return len(self.candidates) == 1

    def for_interim(self, audio_s: float, hint: LanguageHint) -> bool:
        """Whether interim text may be written: not before it is known in which language."""
        language, probability = self.likeliest
        if probability == 1.0:
            return True  # it was named, or there is no other
        if self.sure:
            return audio_s >= INTERIM_SURE_S or hint.seconds(language) >= INTERIM_EVIDENCE_S
        return audio_s >= INTERIM_COMPARED_S


def known_language(language: str) -> LanguageGuess:
    return LanguageGuess(((language, 1.0),))


def guess_language(
    detected: Mapping[str, float], known: Sequence[str], hint: LanguageHint | None = None
) -> LanguageGuess:
    """What to decode in.

    `detected`: each language's probability, as an engine gives it. `known`: the model's languages in the
    order of their training; others are not considered. A hint that leaves none of them is not followed.
    """
    hint = hint or LanguageHint()
    allowed = [code for code in known if not hint.among or code in hint.among] or list(known)
    ranks = {code: rank for rank, code in enumerate(known, start=1)}
    weights = {
        code: max(detected.get(code, 0.0), 1e-9)
        * (1.0 if hint.among else ranks[code] ** -RARITY)
        * min(MAX_EVIDENCE_WEIGHT, 1.0 + hint.seconds(code) / EVIDENCE_S)
        for code in allowed
    }
    total = sum(weights.values())
    ranked = sorted(
        ((code, weight / total) for code, weight in weights.items()), key=lambda item: (-item[1], item[0])
    )
    return LanguageGuess(tuple(ranked[:1] if ranked[0][1] >= SURE else ranked[:MAX_CANDIDATES]))


@dataclass(frozen=True, slots=True)
class CandidateText:
    """How a candidate's text turned out. `doubted`: a guard does not believe it; `looped`: a loop was cut."""

    probability: float
    avg_logprob: float
    has_text: bool = True
    doubted: bool = False
    looped: bool = False


def choose_text(texts: Sequence[CandidateText]) -> tuple[int, float]:
    """Index of the candidate to keep, and its language's probability now that its text is known."""
    scores = [_score(text) for text in texts]
    best = max(range(len(texts)), key=lambda index: scores[index])
    return best, 1.0 / sum(math.exp(min(0.0, score - scores[best])) for score in scores)


_DOUBTED = 2.0
_LOOPED = 1.0
_EMPTY = 4.0


def _score(text: CandidateText) -> float:
    penalty = _DOUBTED * text.doubted + _LOOPED * text.looped + _EMPTY * (not text.has_text)
    avg_logprob = max(text.avg_logprob, -10.0) if not math.isnan(text.avg_logprob) else -10.0
    return math.log(max(text.probability, 1e-9)) + TEXT_WEIGHT * (avg_logprob - penalty)
