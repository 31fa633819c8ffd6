"""The stage itself: one pass after another over a text, or over its words, which change alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from serve_app.core.jobs import Word
from serve_app.formatting.edits import Edit, edit_text, edit_words
from serve_app.formatting.numerals import numeral_edits
from serve_app.formatting.spaces_and_capitals import casing_edits, shouting_edits, spacing_edits, stop_edits

Pass: TypeAlias = Callable[[str, str], list[Edit]]


@dataclass(frozen=True, slots=True)
class FormattingOptions:
    """What is put right; all off by default. Raises `ValueError` for a negative `numerals_from`.

    `closing_stop` ends a text that ends in a word. Whole numbers under `numerals_from` that stand alone stay
    words ("three people"), unless a unit follows ("three percent"); 1 writes them all as digits, the pronoun
    "one" and the like too.
    """

    casing: bool = False
    spacing: bool = False
    numerals: bool = False
    closing_stop: bool = False
    numerals_from: int = 10

    def __post_init__(self) -> None:
        if self.numerals_from < 0:
            raise ValueError(f"numerals_from: expected at least 0, got {self.numerals_from}")

    def chosen(self, *, smart_format: bool | None = None, numerals: bool | None = None) -> FormattingOptions:
        """With a client's choices over it; `smart_format` is casing, spacing and numerals at once, `numerals`
        alone wins over it."""
        options = self
        if smart_format is not None:
            options = replace(options, casing=smart_format, spacing=smart_format, numerals=smart_format)
        return options if numerals is None else replace(options, numerals=numerals)

    @property
    def any(self) -> bool:
        """Whether anything at all is done to the text."""
        return self.casing or self.spacing or self.numerals or self.closing_stop


def format_text(text: str, language: str, options: FormattingOptions, *, continues: bool = False) -> str:
    """The text as it should be written, without spaces at its ends; unchanged where all is off.

    `language` is a Whisper code, or "" where it is not known. `continues`: the text goes on from a sentence
    that began before it, so its first letter stays.
    """
    if not options.any:
        return text
    code = _base(language)
    for find_edits in _passes(options, continues):
        text = edit_text(text, find_edits(text, code))
    return text.strip()


def format_words(
    words: tuple[Word, ...], language: str, options: FormattingOptions, *, continues: bool = False
) -> tuple[Word, ...]:
    """The same for words: joined and stripped, they are what `format_text` makes of their joined text.

    Words that became one ("twenty three" to "23") have the first's start, the last's end and the mean of
    their probabilities.
    """
    if not options.any:
        return words
    code = _base(language)
    for find_edits in _passes(options, continues):
        words = edit_words(words, find_edits("".join(word.word for word in words), code))
    return words


def _base(language: str) -> str:
    """`pt-BR` to `pt`."""
    return language.replace("_", "-").partition("-")[0].lower()


def _passes(options: FormattingOptions, continues: bool) -> Iterator[Pass]:
    if options.spacing:
        yield spacing_edits
    if options.numerals:
        yield partial(numeral_edits, smallest_alone=options.numerals_from)
    if options.casing:
        yield shouting_edits
        yield partial(casing_edits, continues=continues)
    if options.closing_stop:
        yield stop_edits
