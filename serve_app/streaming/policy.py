"""How interim text comes about: what to decode next of an utterance, and what of the answer is certain.

| policy | decodes | certain is | final |
| --- | --- | --- | --- |
| `dual` | the newest words, interim model | what two interims agree on | the final model's own |
| `local_agreement` | all, behind what is certain | what two answers agree on | certain text, the rest |
| `align_att` | all, behind what is certain | what attends to earlier audio | certain text, the rest |

Certain text is the first `stable_chars` of a partial and never changes in later partials of the utterance;
with the last two policies the final begins with it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Protocol, TypeAlias

from msgspec import Meta

from serve_app.core.jobs import AttentionRule, Role, Transcript


class PolicyName(StrEnum):
    DUAL = "dual"
    LOCAL_AGREEMENT = "local_agreement"
    ALIGN_ATT = "align_att"


POLICY_SPELLINGS = {
    "simulstreaming": PolicyName.ALIGN_ATT,
    "alignatt": PolicyName.ALIGN_ATT,
    "localagreement": PolicyName.LOCAL_AGREEMENT,
}
"""What other servers call them."""

PolicySpelling: TypeAlias = Annotated[
    Literal["dual", "local_agreement", "localagreement", "align_att", "alignatt", "simulstreaming"],
    Meta(description="How interim text is made: `dual`, `local_agreement` or `align_att`."),
]
MinChunkMs: TypeAlias = Annotated[
    int, Meta(ge=0, le=30_000, description="Least new audio that a streaming policy decodes.")
]
Trimming: TypeAlias = Annotated[
    Literal["segment", "sentence"],
    Meta(description="Where `local_agreement` and `align_att` give up audio whose text is certain."),
]
TrimmingS: TypeAlias = Annotated[
    float, Meta(gt=0.0, le=30.0, description="Length of an utterance from which they do.")
]


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """One session's streaming policy.

    `min_chunk_ms`: least new audio between two decodes. `trimming_s`: an utterance that is longer gives up
    its certain text, as context, up to the end of a `trimming` unit. `attention` is AlignAtt's rule.
    """

    name: PolicyName = PolicyName.DUAL
    min_chunk_ms: MinChunkMs = 100
    trimming: Trimming = "segment"
    trimming_s: TrimmingS = 15.0
    attention: AttentionRule = AttentionRule()


@dataclass(frozen=True, slots=True)
class Ask:
    """How a stretch of an utterance, from `start_sample` of the session on, is to be decoded.

    `previous` is text of the same utterance that was spoken before it; `prefix` text inside it that is
    certain already, so that the answer begins with it; `before` text that was shown and lies before the
    stretch, of which the model is told nothing. `model` None: the role's own.
    """

    start_sample: int
    prefix: str = ""
    previous: str = ""
    before: str = ""
    word_timestamps: bool = False
    attention: AttentionRule | None = None
    model: Role | None = None


@dataclass(frozen=True, slots=True)
class InterimText:
    """Interim text; its first `stable_chars` code points will not change."""

    text: str
    stable_chars: int


class StreamingPolicy(Protocol):
    """The interim text of one utterance, which begins at the sample it was made with."""

    def ask_interim(self, end_sample: int, longest_samples: int) -> Ask:
        """How to decode the utterance up to `end_sample`; windows of interims are at most this long."""

    def ask_final(self) -> Ask:
        """How to decode the rest of the utterance, once it is closed or may be."""

    def take(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        """The answer to an `ask_interim`; None where nothing can be shown."""

    def preview(self, transcript: Transcript, ask: Ask, end_sample: int) -> InterimText | None:
        """The answer to an `ask_final` while the utterance is still open: shown, nothing is committed."""

    def complete(self, transcript: Transcript, ask: Ask) -> Transcript:
        """The whole utterance's transcript, times from its own start, out of the answer to `ask_final`."""


MakePolicy: TypeAlias = Callable[[int], StreamingPolicy]
"""A new utterance's policy, given its first sample."""
