"""What a Sotto server writes in its own protocol: one record per message, for both ends and the documents.

The server encodes these records and the clients decode them; the OpenAPI and AsyncAPI documents and the
TypeScript types are made from them. Messages are sent by `/ws/stt`, `/ws/stream` and `POST
/transcribe/stream`; a `Transcript` is the answer of `POST /transcribe`. Fields stand in the wire's order,
and what is `UNSET` (which is false) is left out. Times count from the first sample.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace


def means(text: str, *, values: tuple[str, ...] = ()) -> Meta:
    """The meaning of a field, and the `values` that it has so far: newer servers may have others."""
    return Meta(description=text, extra_json_schema={"enum": list(values)} if values else None)


class Written(Struct, frozen=True, kw_only=True):
    """A shape that a server writes: these fields and no others. A reader ignores those of newer servers."""


class _Message(Written, tag_field="type", frozen=True, kw_only=True):
    pass


SessionId: TypeAlias = Annotated[str, means("The id of the session, as `session_started` said it.")]
SegmentId: TypeAlias = Annotated[str, means("The same in the interims, final and revisions of a segment.")]
Speaker: TypeAlias = Annotated[
    str | None | UnsetType,
    means("`SPEAKER_01` and so on, null: not known yet. Only where speakers are told apart."),
]
ResumeFrom: TypeAlias = Annotated[
    int, means("The 16 kHz sample from which a client sends its audio again if it resumes.")
]
TicketText: TypeAlias = Annotated[str, means("Presented as `resume`, it continues the session.")]
KeepChars: TypeAlias = Annotated[
    int,
    means("With `only_new_words`: how many code points of what was sent of the segment stay."),
]
StartMs: TypeAlias = Annotated[float, means("Milliseconds at which the segment begins.")]
EndMs: TypeAlias = Annotated[float, means("Milliseconds at which the audio of the text ends.")]
Confidence: TypeAlias = Annotated[float, means("The probability of the text, from 0 to 1.")]


class SessionStarted(_Message, tag="session_started", frozen=True, kw_only=True):
    """The session takes audio."""

    session_id: Annotated[str, means("The client's own id, or one that the server made.")]
    resumed: Annotated[bool | UnsetType, means("Whether it continues the session of a ticket.")] = UNSET
    resume_from_samples: ResumeFrom | UnsetType = UNSET
    ticket: TicketText | UnsetType = UNSET


class Ticket(_Message, tag="ticket", frozen=True, kw_only=True):
    """Audio before 16 kHz sample `resume_from_samples` is not needed any more."""

    session_id: SessionId
    resume_from_samples: ResumeFrom
    ticket: TicketText


class VadEvent(_Message, tag="vad_event", frozen=True, kw_only=True):
    """Speech begins or ends."""

    session_id: SessionId
    state: Annotated[str, means("Which of the two.", values=("speech_start", "speech_end"))]
    t_ms: Annotated[float, means("Milliseconds from the first sample.")]


class AudioWarning(_Message, tag="audio_warning", frozen=True, kw_only=True):
    """The sound is bad; only with `level_warnings`."""

    session_id: SessionId
    kind: Annotated[
        str, means("What is wrong.", values=("clipping", "dead_silence", "low_level", "dc_offset"))
    ]
    t_ms: Annotated[float, means("Milliseconds from the first sample.")]
    value: Annotated[float, means("The measured level.")]


class SpeechProbability(_Message, tag="speech_probability", frozen=True, kw_only=True):
    """How sure the voice detector is of speech; only with the choice `speech_probability`."""

    session_id: SessionId
    t_ms: Annotated[float, means("Milliseconds of audio that it had heard by then.")]
    probability: Annotated[float, means("From 0 to 1: the highest since the message before.")]


class ModelStatus(_Message, tag="model_status", frozen=True, kw_only=True):
    """A model has said nothing for five seconds though it was asked, or says something again. No word is
    lost: what it did not answer is asked again."""

    session_id: SessionId
    state: Annotated[str, means("Which of the two.", values=("stalled", "resumed"))]
    t_ms: Annotated[float, means("Milliseconds of audio that were taken by then.")]
    waited_ms: Annotated[float, means("Milliseconds since it should have said something.")]


class LoadStatus(_Message, tag="load_status", frozen=True, kw_only=True):
    """How busy the server is and what gives way for it, whenever that changes. Finals never do: under the
    heaviest load another model may decode them, which their `timing` names."""

    session_id: SessionId
    level: Annotated[str, means("How busy.", values=("normal", "high", "critical"))]
    rung: Annotated[
        str,
        means(
            "What gives way, each with those before it.",
            values=(
                "normal",
                "interims_slower",
                "interims_shorter",
                "no_speculation",
                "no_interims",
                "smaller_finals",
                "full",
            ),
        ),
    ]
    interims_paused: Annotated[bool, means("No interims come for now.")]


class Timing(Written, frozen=True, kw_only=True):
    """Milliseconds of one result inside the server, and the model it came from."""

    preprocess_ms: float
    queue_wait_ms: float
    inference_ms: float
    postprocess_ms: float
    server_total_ms: float
    model: str


class Word(Written, frozen=True, kw_only=True):
    """A word as spoken, without punctuation."""

    word: str
    start_s: Annotated[float, means("Seconds from the first sample.")] = field(name="start")
    end_s: Annotated[float, means("Seconds from the first sample.")] = field(name="end")
    probability: float
    speaker: Speaker = UNSET


class PartialTranscript(_Message, tag="partial_transcript", frozen=True, kw_only=True):
    """Interim text of the segment in progress."""

    session_id: SessionId
    segment_id: SegmentId
    text: Annotated[str, means("All of it; with `only_new_words` what is new and will stay.")]
    confidence: Confidence
    is_final: Literal[False] = False
    stable_chars: Annotated[
        int, means("Number of code points at the start of `text` that do not change any more.")
    ]
    language: str
    start_ms: StartMs
    end_ms: EndMs
    timing: Timing
    keep_chars: KeepChars | UnsetType = UNSET


class FinalTranscript(_Message, tag="final_transcript", frozen=True, kw_only=True):
    """Text of a finished segment, once and in order."""

    session_id: SessionId
    segment_id: SegmentId
    text: Annotated[str, means("Empty: what was shown of the segment is taken back.")]
    confidence: Confidence
    is_final: Literal[True] = True
    speaker: Speaker = UNSET
    words: Annotated[tuple[Word, ...], means("Where words were asked for, else empty.")]
    audio_duration_ms: float
    language: str
    language_probability: float
    start_ms: StartMs
    end_ms: EndMs
    endpoint_ms: Annotated[
        float | UnsetType,
        means("Milliseconds at which the segment could be closed: the end of its silence, or its cut."),
    ]
    timing: Timing
    doubted: Annotated[str | UnsetType, means("Why a guard does not believe the text.")] = UNSET
    withheld: Annotated[str | UnsetType, means("Why there is no text.")] = UNSET
    resume_from_samples: ResumeFrom | UnsetType = UNSET
    ticket: TicketText | UnsetType = UNSET
    new_text: Annotated[str | UnsetType, means("With `only_new_words`: the text that is new.")] = UNSET
    keep_chars: KeepChars | UnsetType = UNSET


class SpeakerRevision(_Message, tag="speaker_revision", frozen=True, kw_only=True):
    """Who spoke a final that was sent: known now, or known better."""

    session_id: SessionId
    segment_id: SegmentId
    speaker: Annotated[str | None, means("Who spoke most of it; null: not known.")]
    words: Annotated[
        tuple[str | None, ...] | None,
        means("The speaker of each of the final's words; null: it was sent on an earlier connection."),
    ]
    start_ms: StartMs
    end_ms: EndMs
    resume_from_samples: ResumeFrom | UnsetType = UNSET
    ticket: TicketText | UnsetType = UNSET

    def applied_to(self, final: FinalTranscript) -> FinalTranscript:
        """The final as it would be sent now."""
        spoken = final.words
        if self.words is not None and len(self.words) == len(spoken):
            pairs = zip(spoken, self.words, strict=True)
            spoken = tuple(replace(word, speaker=speaker) for word, speaker in pairs)
        return replace(final, speaker=self.speaker, words=spoken)


class Error(_Message, tag="error", frozen=True, kw_only=True):
    """Something was refused or failed."""

    code: str
    message: str
    session_id: Annotated[str | None, means("Null before a session.")]
    retryable: Annotated[bool, means("The same may succeed later.")]


class SessionEnded(_Message, tag="session_ended", frozen=True, kw_only=True):
    """The last message."""

    session_id: SessionId
    reason: Annotated[str, means("Why.", values=("completed", "cancelled", "error", "timeout"))]
    total_audio_ms: Annotated[float, means("Milliseconds of audio that were taken.")]
    total_segments: Annotated[int, means("Finals with text.")]


class Heartbeat(_Message, tag="heartbeat", frozen=True, kw_only=True):
    """Nothing else to say (`POST /transcribe/stream`)."""

    t_ms: Annotated[float, means("Milliseconds of audio that were taken.")]


class Ping(_Message, tag="ping", frozen=True, kw_only=True):
    """The connection is alive; `pong` may answer it (`/ws/stream`)."""


class Pong(_Message, tag="pong", frozen=True, kw_only=True):
    """The answer to a `ping` of the client (`/ws/stream`)."""


Event: TypeAlias = (
    SessionStarted
    | Ticket
    | VadEvent
    | AudioWarning
    | SpeechProbability
    | ModelStatus
    | LoadStatus
    | PartialTranscript
    | FinalTranscript
    | SpeakerRevision
    | Error
    | SessionEnded
)
"""What every native door sends; `Heartbeat`, `Ping` and `Pong` belong to one of them each."""


class Detail(Written, frozen=True, kw_only=True):
    """Why an HTTP request was refused or failed."""

    detail: str


class Segment(Written, frozen=True, kw_only=True):
    """A stretch of a recording's text."""

    id: int
    start_s: Annotated[float, means("Seconds from the beginning.")] = field(name="start")
    end_s: Annotated[float, means("Seconds from the beginning.")] = field(name="end")
    text: str
    confidence: Annotated[float | None, means("The same as `avg_logprob`.")]
    avg_logprob: Annotated[float | None, means("Mean log-probability of its tokens.")]
    speaker: Speaker = UNSET
    doubted: Annotated[str | UnsetType, means("Why a guard does not believe the text.")] = UNSET


class ProcessingTime(Written, frozen=True, kw_only=True):
    """Milliseconds that one recording took in the server."""

    preprocess_ms: Annotated[float, means("Decoding of the file.")]
    transcribe_ms: Annotated[float, means("Recognition.")]
    total_ms: Annotated[float, means("Both, and what lay between.")]


CachedAt: TypeAlias = Annotated[str, means("When the text was put into the cache, ISO 8601.")]
CacheHitAt: TypeAlias = Annotated[str, means("When it was found there for this answer, ISO 8601.")]


class Transcript(Written, frozen=True, kw_only=True):
    """A recording's text (`POST /transcribe`)."""

    transcript: str
    confidence: Annotated[float | None, means("The same as `language_probability`.")]
    language: str
    language_probability: float | None
    duration_s: Annotated[float, means("Seconds of audio.")] = field(name="duration")
    segments: tuple[Segment, ...]
    processing_time: ProcessingTime
    real_time_factor: Annotated[float, means("Time of recognition over `duration`.")]
    model: str
    timestamp: Annotated[str, means("When it was answered, ISO 8601.")]
    cached: bool
    cached_at: CachedAt | UnsetType = UNSET
    cache_hit_at: CacheHitAt | UnsetType = UNSET
    words: Annotated[tuple[Word, ...] | UnsetType, means("With `word_timestamps`.")] = UNSET
    num_speakers: Annotated[int | UnsetType, means("Where they were asked for.")] = UNSET
    speakers: Annotated[tuple[str, ...] | UnsetType, means("Their labels.")] = UNSET
    warning: Annotated[str | UnsetType, means("What is wrong with the audio.")] = UNSET
    complete: Annotated[
        bool | UnsetType, means("Beside a warning: whether all of the audio could be decoded.")
    ] = UNSET
    withheld_segments: Annotated[int | UnsetType, means("Segments whose doubted text was kept back.")] = UNSET

    @property
    def total_ms(self) -> float:
        return self.processing_time.total_ms


JOB_STATES = ("queued", "running", "done", "failed", "cancelled")


class JobError(Written, frozen=True, kw_only=True):
    """Why a job failed."""

    code: Annotated[str, means("As in the native protocol's errors.")]
    message: str


class JobWebhook(Written, frozen=True, kw_only=True):
    """One webhook of a job."""

    webhook_id: Annotated[str, means("The header `webhook-id`, the same however often it is sent.")]
    status: Annotated[str, means("Where it is.", values=("pending", "delivered", "failed"))]
    attempts: int
    error: Annotated[str | UnsetType, means("Of the last attempt.")] = UNSET


class JobStatus(Written, frozen=True, kw_only=True):
    """A recording in the queue, or what became of it. Times are ISO 8601."""

    job_id: str
    status: Annotated[str, means("Where it is.", values=JOB_STATES)]
    progress: Annotated[float, means("The share that is decoded, from 0 to 1.")]
    created_at: str
    started_at: Annotated[str | None, means("When work on it first began.")] = None
    ended_at: str | None = None
    expires_at: Annotated[str | None, means("When it is forgotten.")] = None
    error: JobError | UnsetType = UNSET
    result: Annotated[
        Any,
        means("Once it is done: the answer of `POST /transcribe`, a text in formats that are none of JSON."),
    ] = UNSET
    webhooks: Annotated[tuple[JobWebhook, ...] | UnsetType, means("Where a webhook was asked for.")] = UNSET

    @property
    def is_ended(self) -> bool:
        return self.status not in ("queued", "running")


class JobList(Written, frozen=True, kw_only=True):
    """Jobs of one key, the newest first, without their results."""

    jobs: tuple[JobStatus, ...]
    next: Annotated[
        str | UnsetType,
        means("Where older ones may begin: send it as `before`; left out behind the last page."),
    ] = UNSET


class Replayed(Written, frozen=True, kw_only=True):
    """Webhooks that will be sent again."""

    replayed: int
