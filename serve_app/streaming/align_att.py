"""The `align_att` policy: certain is what attends to audio well before the end of what has come in.

The rule itself is `asr.attention`'s; engines that give no attention cannot serve this policy.
"""

from __future__ import annotations

from serve_app.core.jobs import Transcript
from serve_app.streaming.committed import CommittingPolicy
from serve_app.streaming.policy import Ask, PolicyOptions


class AlignAttPolicy(CommittingPolicy):
    """Commits the safe part of every answer; the rest of the hypothesis is shown as interim."""

    def __init__(self, start_sample: int, options: PolicyOptions) -> None:
        super().__init__(start_sample, options, attention=options.attention)

    def certain(self, transcript: Transcript, ask: Ask) -> str:
        return transcript.text.strip()[: transcript.committed_chars].rstrip()
