"""What a session tells its client, the same for every door: one frozen record per event.

Times are sample indices at 16 kHz from the session's first sample; a codec turns them into the units
of its protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from serve_app.core.jobs import Word


class EndReason(StrEnum):
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one result inside the server; `total_ms` runs from the cut to the answer."""

    preprocess_ms: float = 0.0
    queue_wait_ms: float = 0.0
    inference_ms: float = 0.0
    postprocess_ms: float = 0.0
    total_ms: float = 0.0
    model: str = ""


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The session takes audio, from its sample `resume_from_samples` on: 0 unless it was `resumed`."""

    session_id: str
    resumed: bool = False
    resume_from_samples: int = 0
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `at_sample` (pre-roll not counted)."""

    at_sample: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Speech ended at `at_sample`: the end of its last voiced window."""

    at_sample: int


@dataclass(frozen=True, slots=True)
class Partial:
    """Interim text of the utterance in progress: all of it, not a delta.

    The first `stable_chars` code points never change in later partials of the same utterance.
    `end_sample` is the last sample that the text covers.
    """

    utterance_id: str
    text: str
    stable_chars: int
    confidence: float
    language: str
    start_sample: int
    end_sample: int
    timing: Timing


@dataclass(frozen=True, slots=True)
class Final:
    """Text of a finished utterance; replaces its partials. Finals of a session come in order, each once, and
    `sequence` counts those with text.

    `words` times are seconds from the session's first sample. `resume_sample` is where a client goes on
    after this final if it has to reconnect, with `ticket`. `decided_sample` is the last sample that had to be
    heard before the utterance could be closed: the end of the endpoint silence, or the cut. `speaker` holds
    most of it (from 0 on), and words carry theirs, as far as it is known by then: text never waits for it.
    `doubted`: why the text is not to be believed. Without text it takes back the partials of an utterance in
    which nothing was said, or says with `withheld` why its text is not told. `next_sample`: where the
    utterance behind it begins, None: at `resume_sample`.
    """

    utterance_id: str
    sequence: int
    text: str
    words: tuple[Word, ...]
    confidence: float
    avg_logprob: float
    language: str
    language_probability: float
    start_sample: int
    end_sample: int
    resume_sample: int
    timing: Timing
    decided_sample: int = 0
    ticket: str = ""
    speaker: int | None = None
    next_sample: int | None = None
    doubted: str = ""
    withheld: str = ""

    @property
    def begins_next(self) -> int:
        """The first sample of the utterance behind it: before the end of one that was cut for its length."""
        return self.resume_sample if self.next_sample is None else self.next_sample


@dataclass(frozen=True, slots=True)
class SpeakerRevision:
    """Who spoke a final that has been sent: known now, or known better now. The newest revision counts.

    `word_speakers` are those of the final's words, in their order; `speaker` holds most of it. `ticket`
    carries this knowledge, and `resume_sample` goes with it, as in `Final`.
    """

    utterance_id: str
    sequence: int
    speaker: int | None
    word_speakers: tuple[int | None, ...]
    start_sample: int
    end_sample: int
    resume_sample: int = 0
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Nothing before `sample` is needed any more, though no final says so: it was silence, or no words.

    Only for sessions that were opened for it: a client that keeps its audio may forget what is older.
    """

    sample: int
    ticket: str


@dataclass(frozen=True, slots=True)
class Flushed:
    """A flush was carried out: all speech before `at_sample` has been told. For sessions that hear
    `Acknowledged`."""

    at_sample: int


@dataclass(frozen=True, slots=True)
class SessionError:
    """Something went wrong that does not end the session (the code is one of `errors`)."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class SoundWarning:
    """The client's sound is bad from `at_sample` on: `kind` is a `LevelProblem`, `value` its measure."""

    kind: str
    at_sample: int
    value: float


@dataclass(frozen=True, slots=True)
class SpeechHeard:
    """The highest speech probability of the windows that the detector heard last, up to `at_sample`. For
    sessions that asked for it."""

    at_sample: int
    probability: float


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Whether a model that this session has asked says anything: for `waited_s` it has not, where it is
    `stalled`, else it had not and does again. Nothing is lost; `at_sample` had been received by then."""

    stalled: bool
    at_sample: int
    waited_s: float


@dataclass(frozen=True, slots=True)
class SessionEnded:
    reason: EndReason
    total_samples: int
    num_finals: int


Event: TypeAlias = (
    SessionStarted
    | SpeechStarted
    | SpeechEnded
    | Partial
    | Final
    | SpeakerRevision
    | Acknowledged
    | Flushed
    | SessionError
    | SoundWarning
    | SpeechHeard
    | ModelStatus
    | SessionEnded
)
