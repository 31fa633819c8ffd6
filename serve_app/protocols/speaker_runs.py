"""A final as stretches of one speaker each, and finals that a later revision may still speak of: those that
were sent, and those that wait for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final as Constant

from serve_app.core.events import Final, SpeakerRevision
from serve_app.core.jobs import Word
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.session.overlap import join_words

MAX_FINALS: Constant = 512
"""So many of the newest finals of a connection can be revised."""
MAX_WAITING: Constant = 8
"""Finals that may wait for their speakers where nothing can be corrected."""


@dataclass(frozen=True, slots=True)
class SpeakerRun:
    """Words in a row of one speaker, None where it is not known (yet); times in seconds from the session's
    start."""

    speaker: int | None
    text: str
    start_s: float
    end_s: float
    words: tuple[Word, ...] = ()


def speaker_runs(final: Final) -> tuple[SpeakerRun, ...]:
    """The final cut where another speaker begins; the texts in a row are the final's.

    A word whose speaker is not known belongs to the words before it, or behind it at the beginning.
    Where the words do not add up to the text, all of it is one run. The first run begins and the last ends
    with the final itself.
    """
    start_s, end_s = final.start_sample / SAMPLE_RATE_HZ, final.end_sample / SAMPLE_RATE_HZ
    whole = SpeakerRun(final.speaker, final.text, start_s, end_s, final.words)
    if not final.words or join_words(final.words) != final.text.strip():
        return (whole,)
    parts: list[tuple[int | None, list[Word]]] = []
    for word in final.words:
        if parts and (word.speaker is None or parts[-1][0] in (None, word.speaker)):
            speaker, part = parts[-1]
            part.append(word)
            parts[-1] = (word.speaker if speaker is None else speaker, part)
        else:
            parts.append((word.speaker, [word]))
    if len(parts) == 1:
        return (replace(whole, speaker=final.speaker if parts[0][0] is None else parts[0][0]),)
    runs = [
        SpeakerRun(speaker, join_words(words), words[0].start_s, words[-1].end_s, words)
        for speaker, words in ((speaker, tuple(part)) for speaker, part in parts)
    ]
    runs[0] = replace(runs[0], start_s=min(start_s, runs[0].end_s))
    runs[-1] = replace(runs[-1], end_s=max(end_s, runs[-1].start_s))
    return tuple(runs)


def revised(final: Final, revision: SpeakerRevision) -> Final:
    """The final as its words are attributed now."""
    words = final.words
    if len(revision.word_speakers) == len(words):
        words = tuple(
            replace(word, speaker=speaker)
            for word, speaker in zip(words, revision.word_speakers, strict=True)
        )
    return replace(final, speaker=revision.speaker, words=words)


def all_known(final: Final) -> bool:
    """Whether there is a speaker for all of it."""
    if not final.words:
        return final.speaker is not None
    return all(word.speaker is not None for word in final.words)


class SentFinals:
    """The newest finals of one connection, as they are attributed now."""

    def __init__(self, max_finals: int = MAX_FINALS) -> None:
        self._max_finals = max_finals
        self._finals: OrderedDict[str, Final] = OrderedDict()

    def add(self, final: Final) -> None:
        self._finals[final.utterance_id] = final
        while len(self._finals) > self._max_finals:
            self._finals.popitem(last=False)

    def revise(self, revision: SpeakerRevision) -> Final | None:
        """None: no such final was sent on this connection, or so long ago that it is forgotten."""
        final = self._finals.get(revision.utterance_id)
        if final is None:
            return None
        self._finals[revision.utterance_id] = changed = revised(final, revision)
        return changed


class WaitingFinals:
    """Finals for a protocol that corrects nothing: each goes on, in order, once all its speakers are known.

    It waits for that until there are `MAX_WAITING` others behind it.
    """

    def __init__(self) -> None:
        self._finals: OrderedDict[str, Final] = OrderedDict()

    def __iter__(self) -> Iterator[Final]:
        return iter(self._finals.values())

    def add(self, final: Final) -> list[Final]:
        """Those that go on now."""
        self._finals[final.utterance_id] = final
        return self._due(MAX_WAITING)

    def revise(self, revision: SpeakerRevision) -> list[Final] | None:
        """Those that go on now; None where the final does not wait."""
        final = self._finals.get(revision.utterance_id)
        if final is None:
            return None
        self._finals[revision.utterance_id] = revised(final, revision)
        return self._due(MAX_WAITING)

    def settle(self) -> list[Final]:
        """All of them: nothing more will be known."""
        return self._due(0)

    def _due(self, max_waiting: int) -> list[Final]:
        due = []
        while self._finals:
            first = next(iter(self._finals.values()))
            if len(self._finals) <= max_waiting and not all_known(first):
                break
            due.append(self._finals.popitem(last=False)[1])
        return due
