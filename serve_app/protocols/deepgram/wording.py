"""Recognised words as Deepgram writes them: bare and small in `word`, as written in `punctuated_word`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from msgspec import UNSET

from serve_app.core.jobs import Word
from serve_app.protocols.deepgram import records
from serve_app.protocols.deepgram.options import TextOptions
from serve_app.protocols.spoken_words import spoken_form

MAX_HITS = 100
"""Of one search term in one result."""


def timed_words(
    words: Sequence[Word],
    text: str,
    start_s: float,
    end_s: float,
    confidence: float,
    speaker: int | None = None,
) -> tuple[Word, ...]:
    """The words, or where there are none those of the text, its time shared out by their length and all of
    its `speaker`."""
    if words:
        return tuple(words)
    pieces = text.split()
    num_chars = sum(map(len, pieces))
    placed, at_s = [], start_s
    for piece in pieces:
        until_s = at_s + (end_s - start_s) * len(piece) / num_chars
        placed.append(Word(f" {piece}", at_s, until_s, confidence, speaker))
        at_s = until_s
    return tuple(placed)


def replace_words(words: Sequence[Word], replacements: Sequence[tuple[str, str]]) -> tuple[Word, ...]:
    """Every `find` said anywhere becomes its replacement, in one word with the marks behind it; an empty
    replacement takes it away. Case does not matter."""
    for find, replacement in replacements:
        words = tuple(_replaced(words, find.lower().split(), replacement))
    return tuple(words)


def _replaced(words: Sequence[Word], find: list[str], replacement: str) -> Iterator[Word]:
    bare = [_bare(word) for word in words]
    index = 0
    while index < len(words):
        end = index + len(find)
        if not find or bare[index:end] != find:
            yield words[index]
            index += 1
            continue
        if replacement:
            yield _joined(words[index:end], replacement)
        index = end


def _joined(words: Sequence[Word], replacement: str) -> Word:
    first, last = words[0], words[-1]
    space = first.word[: len(first.word) - len(first.word.lstrip())]
    written = last.word.strip()
    marks = written[written.rfind(spoken_form(last.word)) + len(spoken_form(last.word)) :]
    probability = sum(word.probability for word in words) / len(words)
    return Word(f"{space}{replacement}{marks}", first.start_s, last.end_s, probability, first.speaker)


def transcript_of(words: Sequence[Word], *, punctuated: bool) -> str:
    """The words in a row, with their marks or without."""
    if punctuated:
        return "".join(word.word for word in words).strip()
    pieces = ((word.word[:1].isspace(), _bare(word)) for word in words)
    return "".join((" " if spaced else "") + bare for spaced, bare in pieces if bare).strip()


def word_records(words: Sequence[Word], text: TextOptions, language: str | None = None) -> list[records.Word]:
    """The `words` of an alternative, `language` named at each, and the speaker where it is known; a mark that
    stands alone is no word."""
    return [
        records.Word(
            word=bare,
            start=seconds(word.start_s),
            end=seconds(word.end_s),
            confidence=probability(word.probability),
            punctuated_word=word.word.strip() if text.punctuated else UNSET,
            language=language or UNSET,
            speaker=UNSET if word.speaker is None else word.speaker,
        )
        for word in words
        if (bare := _bare(word))
    ]


def search_records(words: Sequence[Word], queries: Sequence[str]) -> list[records.Search]:
    """Where each query was said, word for word; case and marks do not matter."""
    bare = [_bare(word) for word in words]
    return [
        records.Search(query=query, hits=[_hit(words[start:end]) for start, end in _places(bare, query)])
        for query in queries
    ]


def _places(bare: Sequence[str], query: str) -> list[tuple[int, int]]:
    terms = query.lower().split()
    if not terms:
        return []
    starts = (index for index in range(len(bare)) if list(bare[index : index + len(terms)]) == terms)
    return [(start, start + len(terms)) for start in starts][:MAX_HITS]


def _hit(words: Sequence[Word]) -> records.Hit:
    return records.Hit(
        confidence=probability(sum(word.probability for word in words) / len(words)),
        start=seconds(words[0].start_s),
        end=seconds(words[-1].end_s),
        snippet=transcript_of(words, punctuated=False),
    )


def mean_probability(words: Sequence[Word]) -> float:
    spoken = [word.probability for word in words if _bare(word)]
    return probability(sum(spoken) / len(spoken)) if spoken else 0.0


def seconds(value: float) -> float:
    return round(float(value), 3)


def probability(value: float) -> float:
    return round(float(min(1.0, max(0.0, value))), 4) if math.isfinite(value) else 0.0


def _bare(word: Word) -> str:
    return spoken_form(word.word).lower()
