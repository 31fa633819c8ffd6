"""Which decodes are tried again, which texts are dropped or doubted: decisions over plain values.

One number says how little a model trusts its own text: `doubt = no_speech_prob - avg_logprob`. Clean speech
has 0.05 to 1.4, sounds without a voice 0.9 to 3.4, many voices at once 0.3 to 4.2
(`benchmarks/text/guards.py`). Where it is not small, the audio is asked: a voice activity model's best
quarter of a second. In short:

    | doubt                       | audio                       | text |
    | ---                         | ---                         | ---  |
    | up to 0.6, no loop          | not asked                   | kept |
    | over 0.6                    | no voice (under 0.4)        | dropped: no_speech |
    | over 1.3 to 1.85, by length | a voice                     | doubted: unintelligible |
    | between                     | a voice                     | kept |
    | any                         | much voice for few words    | doubted: unintelligible |
    | a loop left after retries   | the model hears no speech   | doubted: loop |

What is doubted is dropped where no voice detector cut the audio, and goes out with a low confidence where one
did: speech that was heard is never silently nothing.

Whisper's own rule (Radford et al. 2022, section 4.5) drops a text where `no_speech_prob` > 0.6 and
`avg_logprob` < -1; alone it leaves over a quarter of the texts that Whisper writes on sounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from serve_app.asr.repetition import compression_ratio, find_loop, split_pieces


class Reason(StrEnum):
    """Why a text was dropped or tried again; names for metrics."""

    NO_WORDS = "no_words"
    NO_SPEECH = "no_speech"
    UNINTELLIGIBLE = "unintelligible"
    LOOP = "loop"
    UNLIKELY = "unlikely"
    REPEATED = "repeated"


DOUBTS: Final = frozenset({Reason.UNINTELLIGIBLE, Reason.LOOP, Reason.REPEATED})
"""Reasons to doubt a text that a voice was heard for; the others say that there was none."""


@dataclass(frozen=True, slots=True)
class GuardThresholds:
    """Measured with `benchmarks/text/guards.py` on tiny.en and base.

    `compression_ratio` and `logprob` are Whisper's, for retries. `sure_doubt`: up to it the audio is not
    asked. `voice`: mean speech probability of the best 250 ms. `blind_doubt`: the limit where no audio can be
    asked. `unintelligible`: from so many seconds of audio on, doubt over the second is no speech that anybody
    could follow; longest first. Up to two words in less than `lone_word_s` are not judged so where there is
    `lone_word_voice`. Text of fewer than `sparse_rate` words per second of audio is suspicious from
    `sparse_s` on, and dropped where it is as few for the seconds that hold a voice: many at once.
    `loop_no_speech`: a loop over it is dropped, not cut. `repeated_doubt`, `repeated_no_speech`: over both,
    a text said again and again is dropped.
    """

    compression_ratio: float = 2.4
    logprob: float = -1.0
    sure_doubt: float = 0.6
    voice: float = 0.4
    blind_doubt: float = 1.5
    unintelligible: tuple[tuple[float, float], ...] = ((5.0, 1.3), (2.5, 1.6), (0.0, 1.85))
    lone_word_s: float = 1.2
    lone_word_voice: float = 0.7
    sparse_s: float = 8.0
    sparse_rate: float = 0.8
    loop_no_speech: float = 0.6
    repeated_doubt: float = 1.0
    repeated_no_speech: float = 0.5
    max_repeats: int = 2


MEASURED: Final = GuardThresholds()


@dataclass(frozen=True, slots=True)
class DecodeEvidence:
    """What a decode says of its own text. `spaced` False: writing without spaces between words.
    `ended` False: the token limit stopped it. `looped`: a loop was cut out of `text`."""

    text: str
    avg_logprob: float
    no_speech_prob: float
    audio_s: float
    spaced: bool = True
    ended: bool = True
    looped: bool = False

    @property
    def doubt(self) -> float:
        """Infinite where a value is no number."""
        doubt = self.no_speech_prob - self.avg_logprob
        return doubt if math.isfinite(doubt) else math.inf


class Voice(NamedTuple):
    """What a voice activity model says of some audio: the best mean probability over 256 ms, and for how many
    seconds there is a voice."""

    best: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a text stays; `reason` where it does not. `voice` where the audio was asked."""

    reason: Reason | None = None
    voice: Voice | None = None

    @property
    def keep(self) -> bool:
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Retry:
    """How to decode once more. `full_window` encodes all 30 s and splices no silence."""

    full_window: bool = False
    temperature: float = 0.0
    beam_size: int = 1


RETRIES: Final[dict[Reason, tuple[Retry, ...]]] = {
    # Speech that loops in a short window seldom does in a whole one. Of 18 loops on a babble of voices 5 are
    # left at temperature 0.4, 1 at 0.8; higher ones only make worse words.
    Reason.LOOP: (
        Retry(full_window=True),
        Retry(full_window=True, temperature=0.4),
        Retry(full_window=True, temperature=0.8),
    ),
    # Sampling does not mend unlikely texts (word error rate 0.89 to 0.88 with all of Whisper's five
    # temperatures); five beams do a little (to 0.83 and 0.86).
    Reason.UNLIKELY: (Retry(beam_size=5),),
}


def needs_fallback(evidence: DecodeEvidence, thresholds: GuardThresholds = MEASURED) -> Reason | None:
    """Why a decode should be tried again as `RETRIES` says; None where it is good, or plainly no speech."""
    if _loops(evidence, thresholds):
        return Reason.LOOP
    unlikely = not evidence.avg_logprob >= thresholds.logprob
    # A search for likelier words finds some for a babble too: beyond doubt as it is, it stays as it is.
    followed = evidence.doubt <= _intelligible_doubt(evidence, thresholds)
    if unlikely and (followed or _is_lone_word(evidence, thresholds)):
        return Reason.UNLIKELY
    return None


def best_attempt(attempts: Sequence[DecodeEvidence], thresholds: GuardThresholds = MEASURED) -> int:
    """Index of the attempt to go on with: the first good one; else the likeliest without a loop; else the
    likeliest. Raises `ValueError` without attempts."""
    if not attempts:
        raise ValueError("no attempts to choose from")
    for index, attempt in enumerate(attempts):
        if attempt.avg_logprob >= thresholds.logprob and not _loops(attempt, thresholds):
            return index

    def merit(index: int) -> tuple[bool, float]:
        likelihood = attempts[index].avg_logprob
        return not _loops(attempts[index], thresholds), likelihood if math.isfinite(likelihood) else -math.inf

    return max(range(len(attempts)), key=merit)


def _loops(evidence: DecodeEvidence, thresholds: GuardThresholds) -> bool:
    if not evidence.ended or evidence.looped:
        return True
    if compression_ratio(evidence.text) > thresholds.compression_ratio:
        return True
    pieces = split_pieces(evidence.text, spaced=evidence.spaced)
    return find_loop(pieces) is not None


def judge(
    evidence: DecodeEvidence,
    ask_voice: Callable[[], Voice] | None = None,
    thresholds: GuardThresholds = MEASURED,
) -> Verdict:
    """Whether somebody said this text.

    `ask_voice` gives `heard_voice` of the audio; called at most once, and only for suspicious texts. None:
    there is no detector to ask, and the model's own doubt decides.
    """
    if not has_words(evidence.text):
        return Verdict(Reason.NO_WORDS if evidence.text.strip() else None)
    looped = _loops(evidence, thresholds)
    if looped and evidence.no_speech_prob > thresholds.loop_no_speech:
        return Verdict(Reason.LOOP)
    sparse = evidence.audio_s >= thresholds.sparse_s and _is_sparse(evidence, evidence.audio_s, thresholds)
    if not looped and not sparse and evidence.doubt <= thresholds.sure_doubt:
        return Verdict()
    if ask_voice is None:
        return Verdict(Reason.NO_SPEECH if evidence.doubt > thresholds.blind_doubt else None)
    voice = ask_voice()
    sure = not looped and evidence.doubt <= thresholds.sure_doubt
    if not voice.best >= thresholds.voice and not sure:
        return Verdict(Reason.NO_SPEECH, voice)
    if sparse and voice.seconds >= thresholds.sparse_s and _is_sparse(evidence, voice.seconds, thresholds):
        return Verdict(Reason.UNINTELLIGIBLE, voice)
    lone = voice.best >= thresholds.lone_word_voice and _is_lone_word(evidence, thresholds)
    if not lone and evidence.doubt > _intelligible_doubt(evidence, thresholds):
        return Verdict(Reason.UNINTELLIGIBLE, voice)
    return Verdict(None, voice)


def _intelligible_doubt(evidence: DecodeEvidence, thresholds: GuardThresholds) -> float:
    """A mean over few tokens strays further."""
    for from_s, doubt in thresholds.unintelligible:
        if evidence.audio_s >= from_s:
            return doubt
    return math.inf


def _is_lone_word(evidence: DecodeEvidence, thresholds: GuardThresholds) -> bool:
    """Of a lone word nothing can be said."""
    return evidence.audio_s < thresholds.lone_word_s and len(evidence.text.split()) <= 2


def _is_sparse(evidence: DecodeEvidence, seconds: float, thresholds: GuardThresholds) -> bool:
    """Where there are no spaces, three characters count as a word."""
    num_words = len(evidence.text.split()) if evidence.spaced else len(evidence.text) / 3
    return num_words < thresholds.sparse_rate * seconds


_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*")
_LETTER = re.compile(r"[^\W_]")


def has_words(text: str) -> bool:
    """Whether there is a letter or digit outside of brackets: "[Music]", "♪" and ". . ." are no words."""
    return _LETTER.search(_ANNOTATION.sub("", text)) is not None


_VOICED = 0.5
_VOICE_WINDOW_S = 0.032
_VOICE_WINDOWS = 8
"""Of 32 ms: 256 ms, about a syllable."""


def heard_voice(probs: npt.NDArray[np.float32]) -> Voice:
    """Of speech probabilities per window of 32 ms, float32 `(num_windows,)`."""
    return Voice(best_voice(probs), float(np.count_nonzero(probs >= _VOICED)) * _VOICE_WINDOW_S)


def best_voice(probs: npt.NDArray[np.float32]) -> float:
    """The best mean over 256 ms of speech probabilities per window of 32 ms, float32 `(num_windows,)`.

    The best stretch and not the mean: one word in half a minute is speech. 0 without windows.
    """
    if not len(probs):
        return 0.0
    width = min(_VOICE_WINDOWS, len(probs))
    sums = np.cumsum(np.concatenate([np.zeros(1), np.asarray(probs, np.float64)]))
    return float(np.max(sums[width:] - sums[:-width]) / width)


def is_stale_repeat(
    evidence: DecodeEvidence, recent: Sequence[DecodeEvidence], thresholds: GuardThresholds = MEASURED
) -> bool:
    """Whether a final says once more what the last `max_repeats` finals said, none of them believably.

    `recent`: finals in the order spoken, the newest last. People say "Yes." three times: only texts that are
    each doubtful and each with a `no_speech_prob` over the limit are dropped.
    """
    before = recent[-thresholds.max_repeats :]
    if len(before) < thresholds.max_repeats or not has_words(evidence.text):
        return False
    chain = [*before, evidence]
    return all(_spoken(one.text) == _spoken(evidence.text) and may_be_stale(one, thresholds) for one in chain)


def may_be_stale(evidence: DecodeEvidence, thresholds: GuardThresholds = MEASURED) -> bool:
    """Whether a final is doubtful enough that its repetition is taken for an invention."""
    return (
        evidence.doubt > thresholds.repeated_doubt and evidence.no_speech_prob > thresholds.repeated_no_speech
    )


def _spoken(text: str) -> str:
    return "".join(_LETTER.findall(text)).casefold()
