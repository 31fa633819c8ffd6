"""Interim text whose beginning never changes: LocalAgreement over overlapping windows.

Every interim decodes the tail of the utterance again. `StablePrefix` joins that tail to what it said
before and calls stable what two interims in a row agreed on (LocalAgreement-2: Liu et al. 2020,
Interspeech, "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial Hypothesis
Selection"), the last word excepted, since it may still be growing. Stable text is repeated literally
from then on, independent of later decodes.

Text is compared in units: a word with the whitespace before it, or one ideograph or kana.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from serve_app.streaming.policy import InterimText

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNIT = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")
_SILENT = re.compile(r"[\W_]+")
MAX_JOIN_UNITS = 64
"""How far back a tail may be joined: a window of 8 s holds some 30 words."""


def split_units(text: str) -> list[str]:
    """Cut text into units; each word brings the space before it, the first one too."""
    units = _UNIT.findall(text.strip())
    if units and not re.match(rf"[{_UNSPACED}]", units[0]):
        units[0] = " " + units[0]
    return units


def comparable_form(unit: str) -> str:
    """A unit without case and punctuation: what was said, however it was written."""
    return _SILENT.sub("", unit).casefold()


class StablePrefix:
    """The interim text of one utterance."""

    def __init__(self) -> None:
        self._units: list[str] = []
        self._num_stable = 0
        self._covered_to = 0
        self._has_gap = False

    @property
    def num_open(self) -> int:
        """Units at the end that may change."""
        return len(self._units) - self._num_stable

    def before_last(self, num_units: int) -> list[str]:
        """All units but the last."""
        return self._units[: max(0, len(self._units) - num_units)]

    def update(
        self, tail: str, *, window_start: int, window_end: int, utterance_start: int, num_before: int = 0
    ) -> InterimText:
        """Take the text of `[window_start, window_end)` (samples) of the utterance. `num_before`: units that
        are known to have been said before it."""
        units = split_units(tail)
        if self._units and window_start > self._covered_to:
            # Audio that no interim heard: what comes behind it is in the wrong place until the final.
            self._has_gap = True
        if window_start > utterance_start and self._units:
            seen = max(1, self._covered_to - utterance_start)
            share = (window_start - utterance_start) / seen
            units = self._join(units, num_before or round(min(1.0, share) * len(self._units)), num_before)
        units = self._keep_stable(units)
        if not self._has_gap:
            agreed = num_agreed(units, self._units)
            self._num_stable = max(self._num_stable, min(agreed, len(units) - 1))
        self._units = units
        self._covered_to = window_end
        stable = "".join(units[: self._num_stable]).lstrip()
        return InterimText("".join(units).strip(), len(stable))

    def _join(self, tail: list[str], num_guessed: int, num_before: int) -> list[str]:
        """Put a tail that begins somewhere inside the known text behind what comes before it: behind
        `num_guessed` units where none are the same."""
        base = max(0, len(self._units) - MAX_JOIN_UNITS, num_before)
        known = [comparable_form(unit) for unit in self._units[base:]]
        new = [comparable_form(unit) for unit in tail]
        match = SequenceMatcher(None, known, new, autojunk=False).find_longest_match()
        if match.size >= 2 or (match.size == 1 and match.b <= 1):
            return self._units[: base + match.a] + tail[match.b :]
        return self._units[:num_guessed] + tail

    def _keep_stable(self, units: list[str]) -> list[str]:
        """Put the stable units in place of what the new text has there."""
        stable = self._units[: self._num_stable]
        if units[: len(stable)] == stable:
            return units
        return stable + units[_place_after(stable, units) :]


def num_agreed(one: list[str], other: list[str]) -> int:
    """How many units two texts begin with alike, the space between them aside."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a.strip() != b.strip():
            break
        count += 1
    return count


def _place_after(stable: list[str], units: list[str]) -> int:
    """The number of leading `units` that stand for `stable`: the prefix at the least edit distance."""
    wanted = [comparable_form(unit) for unit in stable]
    row = list(range(len(wanted) + 1))
    best, best_cost = 0, row[-1]
    for index, unit in enumerate(units, start=1):
        form = comparable_form(unit)
        previous, row[0] = row[0], index
        for column, expected in enumerate(wanted, start=1):
            cost = min(previous + (form != expected), row[column] + 1, row[column - 1] + 1)
            previous, row[column] = row[column], cost
        if row[-1] < best_cost or (row[-1] == best_cost and index <= len(wanted)):
            best, best_cost = index, row[-1]
    return best
