"""The `local_agreement` policy: certain is what two decodes in a row say.

LocalAgreement-2 (Liu et al. 2020, Interspeech; Machacek et al. 2023, "Turning Whisper into Real-Time
Transcription System", arXiv 2307.14743). Certain text is forced on the next decode instead of being found
again by its times: nothing can be said twice at the seam, and no alignment is needed for it.
"""

from __future__ import annotations

from serve_app.asr.jobs import Role, Transcript
from serve_app.streaming.committed import CommittedText
from serve_app.streaming.policy import Ask, InterimText, PolicyOptions
from serve_app.streaming.stable_prefix import split_units


class LocalAgreementPolicy:
    """Commits the longest prefix on which two answers agree, its last word excepted: it may still grow."""

    def __init__(self, start_sample: int, options: PolicyOptions) -> None:
        self._text = CommittedText(start_sample, trimming=options.trimming, trimming_s=options.trimming_s)
        self._before: list[str] = []

    def ask_interim(self, end_sample: int, longest_samples: int) -> Ask:
        ask = self._text.ask()
        return Ask(
            ask.start_sample,
            prefix=ask.prefix,
            previous=ask.previous,
            word_timestamps=self._text.is_long(end_sample),
            model=Role.FINAL,
        )

    def ask_final(self) -> Ask:
        return self._text.ask()

    def take(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        rest = self._rest(transcript, ask)
        if rest is None or transcript.looped:
            return None
        agreed = min(_num_agreed(rest, self._before), max(0, len(rest) - 1))
        certain = (ask.prefix + "".join(rest[:agreed])).strip()
        self._before = rest[agreed:]
        self._text.commit(certain)
        text = InterimText(self._text.whole(transcript.text.strip()), len(self._text.text))
        if transcript.words:
            self._text.trim(transcript.words, end_sample)
        return text

    def preview(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        if self._rest(transcript, ask) is None:
            return None
        return InterimText(self._text.whole(transcript.text.strip()), len(self._text.text))

    def complete(self, transcript: Transcript, ask: Ask) -> Transcript:
        return self._text.complete(transcript, ask)

    def _rest(self, transcript: Transcript, ask: Ask) -> list[str] | None:
        """What the answer says behind the certain text; None where it does not fit or says nothing."""
        text = transcript.text.strip()
        if not text or not self._text.matches(ask) or not text.startswith(ask.prefix):
            return None
        behind = text[len(ask.prefix) :]
        units = split_units(behind)
        if units and not ask.prefix:
            units[0] = units[0].lstrip()
        return _as_spelled(behind, units)


def _as_spelled(text: str, units: list[str]) -> list[str]:
    """Units with the very characters of the text between them, so that they join to it again."""
    spelled: list[str] = []
    at = 0
    for unit in units:
        end = text.index(unit.strip(), at) + len(unit.strip())
        spelled.append(text[at:end])
        at = end
    return spelled


def _num_agreed(units: list[str], before: list[str]) -> int:
    count = 0
    for one, other in zip(units, before, strict=False):
        if one.strip() != other.strip():
            break
        count += 1
    return count
