"""What a log of one live session says about its text: how late it came, and how much of it changed.

Pure: from what was sent and received when (`benchmarks.live.load.SessionLog`) to figures.

- The moment at which a sample was spoken is the one at which its chunk was sent, less what the chunk holds
  after it: the time that a chunk takes to fill counts as lateness.
- `first_word_ms`, per utterance: from the start of the final's first word to the first message with text.
- `commit_lag_ms`, per word of a final: from the word's end to the first message that has it inside the stable
  prefix, or to the final. A word that the stable prefix has otherwise than the final comes with the final.
- `final_ms`, per final: from sending the chunk that completes the utterance's end (its endpoint silence or
  its cut) to the final, so that the length of the endpoint silence does not count.
- `num_retractions`: partials that do not literally begin with the stable prefix shown before; where partials
  commit the final, also finals that do not, and utterances that never get one.
- `num_changed_words`: words shown in a partial that the next partial or the final has not in their place.
  Words that are only added are no change. Over the words of the finals this is the flicker: the normalised
  erasure of re-translation (Arivazhagan et al. 2020), but of the changed words alone, not of all behind the
  first of them.

Words are compared without case and punctuation; an ideograph or kana is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from benchmarks.live.load import Arrival, SessionLog, decided_ms
from benchmarks.scoring import Summed
from sotto_client.messages import FinalTranscript, Message, PartialTranscript

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_SILENT = re.compile(r"[\W_]+")


@dataclass(slots=True)
class TextFigures(Summed):
    """Of one session or of many; the lists hold one value per utterance, word and final."""

    first_word_ms: list[float] = field(default_factory=list)
    commit_lag_ms: list[float] = field(default_factory=list)
    final_ms: list[float] = field(default_factory=list)
    num_retractions: int = 0
    num_changed_words: int = 0
    num_final_words: int = 0

    @property
    def flicker(self) -> float | None:
        """Changed words per word of the finals; None without finals."""
        return self.num_changed_words / self.num_final_words if self.num_final_words else None


def measure_session(log: SessionLog, *, commits: bool) -> TextFigures:
    """All figures of one session that went through to its end.

    `commits`: its partials promise the final's text (`local_agreement`, `align_att`), not only each other's.
    """
    figures = TextFigures()
    for partials, final in utterances(log.arrivals):
        _count_changes(figures, [partial.message for partial in partials], final, commits)
        if final is not None:
            _time_utterance(figures, log, partials, final)
    return figures


PartialArrival: TypeAlias = Arrival[PartialTranscript]
FinalArrival: TypeAlias = Arrival[FinalTranscript]


def utterances(
    arrivals: Iterable[Arrival[Message]],
) -> list[tuple[list[PartialArrival], FinalArrival | None]]:
    """Each utterance's partials up to its final, in the order in which the utterances began to show."""
    partials: dict[str, list[PartialArrival]] = {}
    finals: dict[str, FinalArrival] = {}
    for arrival in arrivals:
        match arrival.message:
            case PartialTranscript() as partial if partial.segment_id not in finals:
                partials.setdefault(partial.segment_id, []).append(Arrival(arrival.at_s, partial))
            case FinalTranscript() as final:
                partials.setdefault(final.segment_id, [])
                finals.setdefault(final.segment_id, Arrival(arrival.at_s, final))
            case _:
                pass
    return [(shown, finals.get(segment_id)) for segment_id, shown in partials.items()]


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared."""
    forms = (_SILENT.sub("", word).casefold() for word in _WORD.findall(text))
    return [form for form in forms if form]


def matched_words(shown: Sequence[str], settled: Sequence[str]) -> list[tuple[int, int]]:
    """Which words of `shown` stand unchanged in `settled`, as pairs of indices, by the alignment with the
    least edits; the end of `settled` is free, since text grows."""
    same = 0
    while same < min(len(shown), len(settled)) and shown[same] == settled[same]:
        same += 1
    pairs = [(index, index) for index in range(same)]
    return pairs + [(same + i, same + j) for i, j in _aligned(shown[same:], settled[same:])]


def _aligned(shown: Sequence[str], settled: Sequence[str]) -> list[tuple[int, int]]:
    """Edits count first; of alignments with as many, the one with more words in common wins."""
    edit = len(shown) + 1
    costs = [[edit * column for column in range(len(settled) + 1)]]
    for i, word in enumerate(shown):
        row = [edit * (i + 1)]
        for j, other in enumerate(settled):
            kept = costs[i][j] + (-1 if word == other else edit)
            row.append(min(kept, costs[i][j + 1] + edit, row[j] + edit))
        costs.append(row)
    pairs = []
    i, j = len(shown), min(range(len(settled) + 1), key=lambda column: costs[-1][column])
    while i and j:
        equal = shown[i - 1] == settled[j - 1]
        if costs[i][j] == costs[i - 1][j - 1] + (-1 if equal else edit):
            i, j = i - 1, j - 1
            if equal:
                pairs.append((i, j))
        elif costs[i][j] == costs[i - 1][j] + edit:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _count_changes(
    figures: TextFigures, partials: Sequence[PartialTranscript], final: FinalArrival | None, commits: bool
) -> None:
    texts = [partial.text for partial in partials]
    if final is not None:
        texts.append(final.message.text)
        figures.num_final_words += len(words_of(final.message.text))
    words = [words_of(text) for text in texts]
    for before, after in zip(words, words[1:], strict=False):
        figures.num_changed_words += len(before) - len(matched_words(before, after))
    stable = ""
    for partial in partials:
        stable, kept = _next_stable(stable, partial)
        figures.num_retractions += not kept
    if commits:
        settled = "" if final is None else final.message.text
        figures.num_retractions += not settled.startswith(stable)


def _next_stable(stable: str, partial: PartialTranscript) -> tuple[str, bool]:
    """The longest prefix promised so far, and whether this partial kept the promise before it."""
    promised = partial.text[: partial.stable_chars]
    if not partial.text.startswith(stable):
        return promised, False
    return max(stable, promised, key=len), True


def _time_utterance(
    figures: TextFigures, log: SessionLog, partials: Sequence[PartialArrival], final: FinalArrival
) -> None:
    message = final.message
    figures.final_ms.append(1000 * (final.at_s - log.sent_s(decided_ms(message))))
    ends_ms = [(word, 1000 * spoken.end_s) for spoken in message.words for word in words_of(spoken.word)]
    if not ends_ms:
        return
    shown_s = [partial.at_s for partial in partials if partial.message.text.strip()]
    first_s = min([*shown_s, final.at_s])
    start_ms = 1000 * message.words[0].start_s
    figures.first_word_ms.append(1000 * (first_s - log.spoken_s(start_ms)))
    committed_s = _committed_s(partials, [word for word, _ in ends_ms])
    for index, (_, end_ms) in enumerate(ends_ms):
        at_s = committed_s.get(index, final.at_s)
        figures.commit_lag_ms.append(1000 * (at_s - log.spoken_s(end_ms)))


def _committed_s(partials: Sequence[PartialArrival], settled: Sequence[str]) -> dict[int, float]:
    """When each word of the final, by its index, came to lie in a stable prefix for good."""
    committed_s: dict[int, float] = {}
    stable = ""
    for partial in partials:
        before = stable
        stable, kept = _next_stable(stable, partial.message)
        if not kept:
            committed_s.clear()
        if stable != before:
            for _, index in matched_words(words_of(stable), settled):
                committed_s.setdefault(index, partial.at_s)
    return committed_s
