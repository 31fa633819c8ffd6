"""Words with times and probabilities out of an alignment of tokens with encoder states.

How tokens become words and where their punctuation goes follows openai-whisper's `timing.py` (as
faster-whisper does), so that times and spelling compare with theirs.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from serve_app.core.jobs import Word
from serve_app.models.footprint import SECONDS_PER_STATE
from serve_app.models.languages.writing import LANGUAGES_WITHOUT_SPACES, SENTENCE_ENDS

_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"
_REPLACEMENT = "\ufffd"
_MAX_MEDIAN_S = 0.7

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Tokens `[first, last)` of the text and what they spell."""

    text: str
    first: int
    last: int


def group_tokens(ids: Sequence[int], decode: Decode, language: str) -> list[TokenGroup]:
    """Split a text's token ids into words; without spaces, into the shortest valid characters."""
    characters = _split_on_characters(ids, decode)
    if language in LANGUAGES_WITHOUT_SPACES:
        return characters
    words: list[TokenGroup] = []
    for part in characters:
        alone = not words or part.text.startswith(" ") or part.text.strip() in string.punctuation
        if alone:
            words.append(part)
        else:
            words[-1] = TokenGroup(words[-1].text + part.text, words[-1].first, part.last)
    return words


def _split_on_characters(ids: Sequence[int], decode: Decode) -> list[TokenGroup]:
    whole = decode(ids)
    groups: list[TokenGroup] = []
    first = offset = 0
    for last in range(1, len(ids) + 1):
        text = decode(ids[first:last])
        broken = text.find(_REPLACEMENT)
        genuine = 0 <= broken + offset < len(whole) and whole[broken + offset] == _REPLACEMENT
        if broken < 0 or genuine or last == len(ids):
            groups.append(TokenGroup(text, first, last))
            first = last
            offset += len(text)
    return groups


def time_words(
    groups: Sequence[TokenGroup],
    alignments: Sequence[tuple[int, int]],
    token_probs: Sequence[float],
    duration_s: float,
) -> tuple[Word, ...]:
    """Words in order, times in `[0, duration_s]`, none before the one before it.

    `alignments` is a monotone path of (token index, state of 20 ms), as `Whisper.align` returns it, with
    one row more than there are tokens: the end token. An empty path (no audio) gives no words.
    """
    starts: dict[int, float] = {}
    for token, state in alignments:
        starts.setdefault(token, state * SECONDS_PER_STATE)
    if not starts:
        return ()
    words = []
    for group in groups:
        probs = token_probs[group.first : group.last]
        start_s = starts.get(group.first, duration_s)
        end_s = starts.get(group.last, duration_s)
        words.append(Word(group.text, start_s, end_s, sum(probs) / len(probs) if probs else 0.0))
    return _in_order(_join_punctuation(_shorten_at_sentence_ends(words)), duration_s)


def _shorten_at_sentence_ends(words: list[Word]) -> list[Word]:
    """A word beside a full stop often takes the pause too: no longer than twice the median word."""
    durations = [word.end_s - word.start_s for word in words if word.end_s > word.start_s]
    if not durations:
        return words
    max_s = 2 * min(_MAX_MEDIAN_S, median(durations))
    for i in range(1, len(words)):
        if words[i].end_s - words[i].start_s <= max_s:
            continue
        if words[i].word.strip() in SENTENCE_ENDS:
            words[i] = replace(words[i], end_s=words[i].start_s + max_s)
        elif words[i - 1].word.strip() in SENTENCE_ENDS:
            words[i] = replace(words[i], start_s=words[i].end_s - max_s)
    return words


def _join_punctuation(words: list[Word]) -> list[Word]:
    """Attach opening marks to the word behind, closing marks to the word before; the word's times stay."""
    joined: list[Word] = []
    opening: Word | None = None
    for word in words:
        text = word.word.strip()
        if opening is not None:
            word = replace(word, word=opening.word + word.word)
            opening = None
        if not text:
            # A bare space or an end of line belongs to no word.
            continue
        if word.word.startswith(" ") and text == word.word.strip() and text in _PREPENDED:
            opening = word
        elif joined and word.word == text and text in _APPENDED:
            joined[-1] = replace(joined[-1], word=joined[-1].word + text)
        else:
            joined.append(word)
    return joined if opening is None else [*joined, opening]


def _in_order(words: list[Word], duration_s: float) -> tuple[Word, ...]:
    ordered = []
    before_s = 0.0
    for word in words:
        start_s = min(max(word.start_s, before_s), duration_s)
        end_s = min(max(word.end_s, start_s), duration_s)
        probability = min(1.0, max(0.0, word.probability))
        ordered.append(Word(word.word, round(start_s, 3), round(end_s, 3), probability))
        before_s = end_s
    return tuple(ordered)
