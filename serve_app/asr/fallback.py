"""From a model's first answer to the text that is kept: retries, loops cut, texts without a voice taken away.

A text that is not believed though a voice speaks is kept and marked: who asked for it decides. What to decide
is `guards` and `repetition`; here it is carried out around one item of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from serve_app.asr.engines.base import Hypothesis
from serve_app.asr.guards import (
    DOUBTS,
    MEASURED,
    RETRIES,
    DecodeEvidence,
    GuardThresholds,
    Retry,
    Voice,
    best_attempt,
    judge,
    needs_fallback,
)
from serve_app.asr.repetition import without_loops
from serve_app.core.samples import Pcm16

DecodeAgain = Callable[[Retry], Hypothesis]
AskVoice = Callable[[Pcm16], Voice]
"""The voice in int16 audio `(num_samples,)`, 16 kHz."""


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """`enabled` False: texts stay as they were written. `ask_voice` None: the model's own doubt decides."""

    enabled: bool = True
    thresholds: GuardThresholds = MEASURED
    ask_voice: AskVoice | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What is left of an item: the attempt it came from, and its text. `rejected`: why there is no text;
    `doubted`: why the text is not to be believed, though a voice speaks."""

    hypothesis: Hypothesis
    text: str
    temperature: float = 0.0
    rejected: str = ""
    doubted: str = ""
    looped: bool = False


@dataclass(frozen=True, slots=True)
class Spoken:
    """What the guards know of an item beside the model's answers. `spaced`: its script has spaces."""

    audio: Pcm16
    audio_s: float
    spaced: bool
    decode: Callable[[Hypothesis], str]


def settle(
    first: Hypothesis, spoken: Spoken, options: GuardOptions, decode_again: DecodeAgain | None
) -> Settled:
    """Take the first answer, or a better one, or none. `decode_again` None: there is no time for retries."""
    if not options.enabled:
        return Settled(first, spoken.decode(first))
    limits = options.thresholds
    hypotheses, ways = [first], [Retry()]
    evidence = [_evidence(first, spoken)]
    reason = needs_fallback(evidence[0], limits) if decode_again is not None else None
    if reason is not None and decode_again is not None:
        for way in RETRIES[reason]:
            hypotheses.append(decode_again(way))
            ways.append(way)
            evidence.append(_evidence(hypotheses[-1], spoken))
            if needs_fallback(evidence[-1], limits) is None:
                break
    best = best_attempt(evidence, limits)
    chosen = evidence[best]
    text = without_loops(chosen.text, spaced=spoken.spaced, ran_on=not chosen.ended)
    looped = text != chosen.text
    ask = options.ask_voice
    verdict = judge(
        replace(chosen, text=text, looped=looped),
        None if ask is None else lambda: ask(spoken.audio),
        limits,
    )
    why = "" if verdict.reason is None else verdict.reason.value
    has_voice = verdict.reason in DOUBTS
    return Settled(
        hypotheses[best],
        text if verdict.keep or has_voice else "",
        temperature=ways[best].temperature,
        rejected="" if has_voice else why,
        doubted=why if has_voice else "",
        looped=looped,
    )


def _evidence(hypothesis: Hypothesis, spoken: Spoken) -> DecodeEvidence:
    return DecodeEvidence(
        text=spoken.decode(hypothesis),
        avg_logprob=hypothesis.avg_logprob,
        no_speech_prob=hypothesis.no_speech_prob,
        audio_s=spoken.audio_s,
        spaced=spoken.spaced,
        ended=hypothesis.ended,
    )
