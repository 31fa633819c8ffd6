"""All that a session needs to go on elsewhere: what a resume ticket carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.asr.guards import DecodeEvidence
from serve_app.asr.jobs import Word


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a session right after a final (or at its start): everything later follows from it
    and the audio from `sample` on.

    `cut_sample` is set where the next utterance continues one that was cut for its length; `last_word`
    is then the last word before the cut (times in seconds from the session's first sample). `context` is the
    newest text, where utterances are decoded with it in view; `doubtful` are the last finals as long as
    none of them was believable, for the guard against repeats.
    """

    sample: int = 0
    utterance: int = 0
    sequence: int = 0
    cut_sample: int | None = None
    last_word: Word | None = None
    context: str = ""
    doubtful: tuple[DecodeEvidence, ...] = ()
    language_evidence: Mapping[str, float] = field(default_factory=dict)
