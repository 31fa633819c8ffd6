"""Does the audio carry a text that was written under a prompt? Decisions over plain values.

Whisper takes hotwords and previous text for what was said just before, and on little audio it writes them
again though they were not said, in most breaths and many clips of one word. Such a text is decoded once more
without the prompt. The prompted one stays only where it differs by whole phrases of the prompt alone, and the
audio carries them: scored as if there were no prompt, it is hardly less likely than the other, no wild guess.
`benchmarks/text/short_words.py` has the numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

MAX_ECHO_S: Final = 2.0
"""Texts of so little audio are always asked about; those of more only where the prompt's words make them up.
Interims of so little audio take no prompt at all: a newer one comes, and two decodes cost too much."""

MAX_LOSS: Final = 2.0
"""By so much may the prompted text's log-probability (nats, all tokens) fall behind that of the other."""

MIN_MEAN: Final = -2.0
"""Of the prompted text's log-probability per token: on a sound without words every text is alike."""

_ECHO_SHARE = 0.75
_MIN_TOKEN_PROB = 1e-9
_WORD = re.compile(r"[^\W_]+")
_PHRASE_END = re.compile(r"[,;:.!?\n\u3001\u3002]")


def may_echo(text: str, prompt: str, audio_s: float) -> bool:
    """Whether a text written under `prompt` is one to ask about."""
    if audio_s <= MAX_ECHO_S:
        return True
    words, known = _split(text), set(_split(prompt))
    return bool(words) and sum(word in known for word in words) >= _ECHO_SHARE * len(words)


def gains_words(text: str, bare: str, prompt: str) -> bool:
    """Whether a text has words that the one decoded without a prompt has not, all of them of phrases of the
    prompt that stand whole in the text: "off sides" gains nothing from "lights off". Phrases end at
    punctuation; in a prompt without any, every word is one."""
    said = _split(text)
    gained = Counter(said) - Counter(_split(bare))
    whole = Counter(word for phrase in _phrases(prompt) if _stands_in(phrase, said) for word in phrase)
    return bool(gained) and gained <= whole


def carries(prompted: Sequence[float], bare: Sequence[float]) -> bool:
    """Whether the audio carries the prompted text, by the probabilities of its tokens and those of the text
    decoded without a prompt, both as if there had been no prompt."""
    score = _log_probability(prompted)
    return score >= _log_probability(bare) - MAX_LOSS and score >= MIN_MEAN * len(prompted)


def _phrases(prompt: str) -> list[list[str]]:
    parts = _PHRASE_END.split(prompt)
    phrases = [_split(part) for part in parts] if len(parts) > 1 else [[word] for word in _split(prompt)]
    return [phrase for phrase in phrases if phrase]


def _stands_in(phrase: list[str], words: list[str]) -> bool:
    return any(words[at : at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1))


def _split(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _log_probability(token_probs: Sequence[float]) -> float:
    return sum(math.log(max(prob, _MIN_TOKEN_PROB)) for prob in token_probs)
