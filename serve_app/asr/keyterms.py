"""Terms to expect, as a trie of tokens: what the search may write though the model finds it less likely.

A term begins at a word's begin and ends at a word's end, in the writing given and with a capital. It has a
budget: by so much, in nats over all of its tokens, may it be less likely than what the model would have
written instead (`engines/lifting.py` spends it). Tries for terms: Zhao et al. 2019, "Shallow-Fusion
End-to-End Contextual Biasing" (Interspeech).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from serve_app.asr.features import FloatArray
from serve_app.core.keyterms import Keyterm

MAX_KEYTERM_TOKENS: Final = 32

BUDGET: Final = 5.0
"""Nats for a term of boost 1; chosen with `benchmarks/text/keyterms.py`."""

_REPLACEMENT = "\ufffd"


@dataclass(slots=True)
class Node:
    """A place in the trie. `ids` `(num_children,)`: the tokens that terms go on with, `budgets`: the largest
    of the terms behind each. `whole`: the budget of a term that ends here, below 0 where none does."""

    children: dict[int, Node] = field(default_factory=dict)
    whole: float = -1.0
    budget: float = 0.0
    ids: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    budgets: FloatArray = field(default_factory=lambda: np.zeros(0, np.float32))

    def add(self, tokens: Sequence[int], budget: float) -> None:
        node = self
        for token in tokens:
            node = node.children.setdefault(token, Node())
            node.budget = max(node.budget, budget)
        node.whole = max(node.whole, budget)

    def freeze(self) -> None:
        """Make the arrays of this node and of all below it."""
        self.ids = np.fromiter(self.children, np.int64, len(self.children))
        self.budgets = np.array([child.budget for child in self.children.values()], dtype=np.float32)
        for child in self.children.values():
            child.freeze()

    def chain(self) -> Iterator[int]:
        """The tokens that must follow, up to where a term is whole or terms part."""
        node = self
        while len(node.children) == 1 and node.whole < 0:
            [(token, node)] = node.children.items()
            yield token


@dataclass(frozen=True, slots=True)
class KeytermTrie:
    """The terms of one job. `behind_space` begins with a space and may come anywhere, `at_begin` may also
    come where no word is being written. `text_of`: a token's text. `spaced`: words have spaces between
    them."""

    behind_space: Node
    at_begin: Node
    text_of: Callable[[int], str]
    spaced: bool = True

    def start(self, before: int | None) -> Node:
        """Where terms begin behind the token `before`, None: at the text's begin."""
        inside = self.spaced and before is not None and _is_letter(self.text_of(before)[-1:])
        return self.behind_space if inside else self.at_begin

    def goes_on_with_word(self, token: int) -> bool:
        """Whether the token belongs to the word before it."""
        return self.spaced and _is_letter(self.text_of(token)[:1])


def build_trie(
    terms: Sequence[Keyterm],
    encode: Callable[[str], list[int]],
    text_of: Callable[[int], str],
    *,
    spaced: bool,
    budget: float = BUDGET,
) -> KeytermTrie | None:
    """`encode`: a text's ids, leading space and all. None where there are no terms."""
    behind_space, at_begin = Node(), Node()
    for term in terms:
        for text in {term.text, term.text[:1].upper() + term.text[1:]}:
            for root, ids in ((behind_space, encode(f" {text}")), (at_begin, encode(text))):
                if 0 < len(ids) <= MAX_KEYTERM_TOKENS:
                    root.add(ids, budget * term.boost)
    if not behind_space.children and not at_begin.children:
        return None
    # Tokens with a space before them and those without differ, but for scripts whose space is a token alone.
    for token, node in behind_space.children.items():
        at_begin.children.setdefault(token, node)
    behind_space.freeze()
    at_begin.freeze()
    return KeytermTrie(behind_space, at_begin, text_of, spaced)


def _is_letter(character: str) -> bool:
    """Also a part of one: a token may end within a character."""
    return character.isalnum() or character == _REPLACEMENT
