"""AlignAtt's rule: which tokens of a hypothesis are safe while the audio is still coming in.

A token is safe when it attends to audio that is well before the end (Papi et al. 2023, "AlignAtt: Using
Attention-based Audio-Translation Alignments as a Guide for Simultaneous Speech Translation", arXiv
2305.11408, section 3). Greedy decoding is causal, so cutting a whole hypothesis here gives the tokens that
decoding would have stopped at.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

from serve_app.core.jobs import AttentionRule

_REPLACEMENT = "\ufffd"
_MARKS = frozenset(string.punctuation + "。，、！？：；…“”’»«)")

Decode = Callable[[Sequence[int]], str]


def num_safe_tokens(
    attended: Sequence[int], *, num_forced: int, num_states: int, rule: AttentionRule, ended: bool
) -> int:
    """How many tokens may be committed, the `num_forced` of before at least.

    `attended` is each token's state, `num_states` hold the audio, `ended` says that the model stopped by
    itself. A hypothesis that ran into its token limit, or whose attention jumps far back, commits nothing.
    """
    if not ended:
        return num_forced
    limit = num_states - rule.frame_threshold
    before = attended[num_forced - 1] if num_forced else 0
    for index in range(num_forced, len(attended)):
        state = attended[index]
        if before - state > rule.rewind_threshold:
            return num_forced
        if state >= limit:
            return index
        before = state
    return len(attended)


def end_at_word(
    ids: Sequence[int], num_safe: int, decode: Decode, *, num_forced: int, spaced: bool = True
) -> int:
    """The same count with the last word whole: a word whose next token was cut off is held back, and so
    are bytes of an unfinished character. `spaced`: the language puts spaces between words."""
    count = num_safe
    if spaced and count < len(ids) and not _begins_word(decode([ids[count]])):
        while count > num_forced and not _begins_word(decode([ids[count - 1]])):
            count -= 1
        count = max(num_forced, count - 1)
    while count > num_forced and decode(ids[num_forced:count]).endswith(_REPLACEMENT):
        count -= 1
    return count


def _begins_word(piece: str) -> bool:
    """Whether a token's text starts a word or is a mark that ends one."""
    return piece.startswith(" ") or (bool(piece) and all(mark in _MARKS for mark in piece))
