"""All that a session needs to go on elsewhere: what a resume ticket carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.asr.guards import DecodeEvidence
from serve_app.core.jobs import Word


@dataclass(frozen=True, slots=True)
class UnlabelledFinal:
    """A final as far as its speakers go; `spans` are its words' start and end in seconds of the session, or
    its own where it has no words; `speakers` are theirs, as far as they are known."""

    utterance_id: str
    sequence: int
    start_sample: int
    end_sample: int
    spans: tuple[tuple[float, float], ...]
    speakers: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class SpeakerCheckpoint:
    """The voices that are known (`LabellerState.to_bytes`), and the finals that were sent without speakers,
    whose audio begins at `from_sample`."""

    state: bytes = b""
    from_sample: int = 0
    unlabelled: tuple[UnlabelledFinal, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a session right after a final (or at its start): everything later follows from it
    and the audio from `sample` on.

    `cut_sample` is set where the next utterance continues one that was cut for its length; `last_word`
    is then the last word before the cut (times in seconds from the session's first sample). `context` is the
    newest text, where utterances are decoded with it in view; `doubtful` are the last finals as long as
    none of them was believable, for the guard against repeats. `speakers`: where they are told apart.
    """

    sample: int = 0
    utterance: int = 0
    sequence: int = 0
    cut_sample: int | None = None
    last_word: Word | None = None
    context: str = ""
    doubtful: tuple[DecodeEvidence, ...] = ()
    language_evidence: Mapping[str, float] = field(default_factory=dict)
    speakers: SpeakerCheckpoint | None = None

    @property
    def resume_sample(self) -> int:
        """The first sample that has to be sent again: `sample`, or before it for speakers not known yet."""
        return self.sample if self.speakers is None else min(self.sample, self.speakers.from_sample)
