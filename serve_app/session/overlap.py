"""Words around the cut of a long utterance: each is kept on one side only.

Both sides decode a little audio beyond the cut. A word belongs to the side that holds its middle; a word
that both sides heard in the overlap is the first side's.
"""

from __future__ import annotations

from serve_app.core.jobs import Word
from serve_app.streaming.stable_prefix import comparable_form


def trim_overlap(
    words: tuple[Word, ...],
    *,
    cut_before_s: float | None = None,
    cut_after_s: float | None = None,
    last_word: Word | None = None,
    overlap_s: float = 0.2,
) -> tuple[Word, ...]:
    """Drop the words that belong to the neighbours; all times in seconds on one clock.

    `cut_before_s` is the cut at which this utterance begins, `last_word` the last one kept before it;
    `cut_after_s` the cut at which it ends.
    """
    kept = words
    if cut_after_s is not None:
        kept = tuple(word for word in kept if _middle(word) < cut_after_s)
    if cut_before_s is not None:
        kept = tuple(word for word in kept if _middle(word) >= cut_before_s)
        if kept and last_word is not None and _heard_twice(last_word, kept[0], cut_before_s, overlap_s):
            kept = kept[1:]
    return kept


def join_words(words: tuple[Word, ...]) -> str:
    return "".join(word.word for word in words).strip()


def _middle(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def _heard_twice(last: Word, first: Word, cut_s: float, overlap_s: float) -> bool:
    same = comparable_form(last.word) == comparable_form(first.word) != ""
    return same and last.end_s > cut_s - overlap_s and first.start_s < cut_s + overlap_s / 2
