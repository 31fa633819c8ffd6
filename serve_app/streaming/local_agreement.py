"""The `local_agreement` policy: certain is what two decodes in a row say.

LocalAgreement-2 (Liu et al. 2020, Interspeech; Machacek et al. 2023, "Turning Whisper into Real-Time
Transcription System", arXiv 2307.14743). Certain text is forced on the next decode instead of being found
again by its times: nothing can be said twice at the cut, and no alignment is needed for it.
"""

from __future__ import annotations

from serve_app.core.jobs import Transcript
from serve_app.streaming.committed import CommittingPolicy
from serve_app.streaming.policy import Ask, PolicyOptions
from serve_app.streaming.stable_prefix import num_agreed, split_units


class LocalAgreementPolicy(CommittingPolicy):
    """Commits the longest prefix on which two answers agree, its last word excepted: it may still grow."""

    def __init__(self, start_sample: int, options: PolicyOptions) -> None:
        super().__init__(start_sample, options)
        self._before: list[str] = []

    def certain(self, transcript: Transcript, ask: Ask) -> str:
        rest = _spelled_units(transcript.text.strip()[len(ask.prefix) :])
        agreed = min(num_agreed(rest, self._before), max(0, len(rest) - 1))
        self._before = rest[agreed:]
        return (ask.prefix + "".join(rest[:agreed])).strip()


def _spelled_units(text: str) -> list[str]:
    """Units with the very characters of the text between them, so that they join to it again."""
    spelled: list[str] = []
    at = 0
    for unit in split_units(text):
        end = text.index(unit.strip(), at) + len(unit.strip())
        spelled.append(text[at:end])
        at = end
    return spelled
