"""The text of an utterance that is certain: behind it the model goes on, in front of it audio is given up.

head: text and times, its audio given up | committed: forced on the next decode | open: may change
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from serve_app.core.jobs import (
    AttentionRule,
    Role,
    Transcript,
    Word,
)
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.models.languages.writing import SENTENCE_ENDS
from serve_app.streaming.policy import Ask, InterimText, PolicyOptions, Trimming

MAX_COMMITTED_CHARS = 400
"""More forced text than this costs more to force than to give up its audio."""
SEGMENT_PAUSE_S = 0.3
LEAST_REST_S = 1.0
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff00-\uffef]"
)
_CLAUSE_ENDS = SENTENCE_ENDS + "…,;:，、；："


class CommittedText:
    """Certain text, and the audio that is still decoded. Text only ever grows at its end."""

    def __init__(self, start_sample: int, *, trimming: Trimming, trimming_s: float) -> None:
        self._utterance_start = start_sample
        self._trimming = trimming
        self._trimming_samples = round(trimming_s * SAMPLE_RATE_HZ)
        self._head = ""
        self._head_words: tuple[Word, ...] = ()
        self._buffer_start = start_sample
        self._committed = ""

    @property
    def committed(self) -> str:
        """What the next answer begins with."""
        return self._committed

    @property
    def text(self) -> str:
        """All that is certain."""
        return self.whole(self._committed)

    def ask(self) -> Ask:
        """Decode from where audio is kept, behind the certain text."""
        return Ask(self._buffer_start, prefix=self._committed, previous=self._head.strip())

    def is_long(self, end_sample: int) -> bool:
        """Whether the buffer should be cut: words with times are needed for that."""
        length = end_sample - self._buffer_start
        return length > self._trimming_samples or len(self._committed) > MAX_COMMITTED_CHARS

    def matches(self, ask: Ask) -> bool:
        """Whether an answer to `ask` still fits: the buffer and what is committed have not moved on."""
        return ask.start_sample == self._buffer_start and self._committed == ask.prefix

    def commit(self, text: str) -> None:
        """The buffer's certain text as it is now; it must begin with what was certain before."""
        if text.startswith(self._committed):
            self._committed = text

    def whole(self, buffer_text: str) -> str:
        """The utterance's text with this as the buffer's."""
        return join_text(self._head, buffer_text)

    def trim(self, words: Sequence[Word], end_sample: int) -> None:
        """Give up the audio of the certain text as far as the last whole segment or sentence.

        `words` spell the buffer's text, their times count from the buffer's start. A buffer that offers no
        such place is cut behind its last certain word once it is half as long again.
        """
        if not self.is_long(end_sample):
            return
        certain = _num_within(words, len(self._committed))
        if certain and not self._far_from_end(words[certain - 1], end_sample):
            certain -= 1
        cut = next((n for n in range(certain, 0, -1) if self._is_place(words, n)), 0)
        if cut == 0 and end_sample - self._buffer_start > 1.5 * self._trimming_samples:
            cut = certain
        if cut:
            self._give_up(words[:cut])

    def complete(self, transcript: Transcript, ask: Ask) -> Transcript:
        """The transcript of the buffer with the head before it, times from the utterance's start.

        Certain text stays, also where a guard has taken the answer away.
        """
        shift_s = (ask.start_sample - self._utterance_start) / SAMPLE_RATE_HZ
        kept = transcript.text.startswith(ask.prefix)
        words = tuple(word.shifted(shift_s) for word in transcript.words) if kept else ()
        text = self.whole(transcript.text if kept else ask.prefix)
        return replace(transcript, text=text, words=(*self._head_words, *words))

    def _far_from_end(self, word: Word, end_sample: int) -> bool:
        end_s = (end_sample - self._buffer_start) / SAMPLE_RATE_HZ
        return end_s - word.end_s >= LEAST_REST_S

    def _is_place(self, words: Sequence[Word], count: int) -> bool:
        """Whether a unit ends behind the first `count` words."""
        text = words[count - 1].word.rstrip()
        if self._trimming == "sentence":
            return text.endswith((*SENTENCE_ENDS, "…"))
        if text.endswith(tuple(_CLAUSE_ENDS)):
            return True
        return count < len(words) and words[count].start_s - words[count - 1].end_s >= SEGMENT_PAUSE_S

    def _give_up(self, words: Sequence[Word]) -> None:
        shift_s = (self._buffer_start - self._utterance_start) / SAMPLE_RATE_HZ
        given_up = "".join(word.word for word in words).strip()
        if not self._committed.startswith(given_up):
            return
        rest = self._committed[len(given_up) :]
        self._head_words = (*self._head_words, *(word.shifted(shift_s) for word in words))
        self._head = self.whole(given_up) + rest[: len(rest) - len(rest.lstrip())]
        self._committed = rest.strip()
        self._buffer_start += round(words[-1].end_s * SAMPLE_RATE_HZ)


class CommittingPolicy(ABC):
    """What `local_agreement` and `align_att` share: the final model goes on behind the certain text, and a
    final continues it. They differ in what becomes certain."""

    def __init__(
        self, start_sample: int, options: PolicyOptions, *, attention: AttentionRule | None = None
    ) -> None:
        self._attention = attention
        self._text = CommittedText(start_sample, trimming=options.trimming, trimming_s=options.trimming_s)

    @abstractmethod
    def certain(self, transcript: Transcript, ask: Ask) -> str:
        """How much of an answer's text, from its start, may be committed; called once for each answer."""

    def ask_interim(self, end_sample: int, longest_samples: int) -> Ask:
        return replace(
            self._text.ask(),
            word_timestamps=self._text.is_long(end_sample),
            attention=self._attention,
            model=Role.FINAL,
        )

    def ask_final(self) -> Ask:
        return self._text.ask()

    def take(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        if not self._fits(transcript, ask) or transcript.looped:
            return None
        self._text.commit(self.certain(transcript, ask))
        shown = self._shown(transcript)
        if transcript.words:
            self._text.trim(transcript.words, end_sample)
        return shown

    def preview(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        return self._shown(transcript) if self._fits(transcript, ask) else None

    def complete(self, transcript: Transcript, ask: Ask) -> Transcript:
        return self._text.complete(transcript, ask)

    def _shown(self, transcript: Transcript) -> InterimText:
        return InterimText(self._text.whole(transcript.text.strip()), len(self._text.text))

    def _fits(self, transcript: Transcript, ask: Ask) -> bool:
        """Whether it says something behind the certain text as it is now."""
        text = transcript.text.strip()
        return bool(text) and self._text.matches(ask) and text.startswith(ask.prefix)


def join_text(one: str, other: str) -> str:
    """Two texts one after the other, with a space between them where their script has spaces."""
    if not one or not other or one[-1].isspace():
        return one + other
    unspaced = _UNSPACED.match(one[-1]) and _UNSPACED.match(other[0])
    return one + other if unspaced else f"{one} {other}"


def _num_within(words: Sequence[Word], num_chars: int) -> int:
    """How many words lie whole inside the first `num_chars` of the text they spell."""
    spelled = ""
    for index, word in enumerate(words):
        spelled = (spelled + word.word).lstrip()
        if len(spelled) > num_chars:
            return index
    return len(words)
