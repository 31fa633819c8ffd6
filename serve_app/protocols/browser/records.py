"""What the server writes on `/ws` and `/asr`: interim and final messages, and WhisperLiveKit's updates."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, UnsetType

from sotto_client.wire import Written, means

Status: TypeAlias = Literal["active_transcription", "no_audio_detected", "error"]


UnixS: TypeAlias = Annotated[float, means("Unix seconds.")]
Speaker: TypeAlias = Annotated[
    str | None | UnsetType,
    means("`SPEAKER_01` and so on, null: not known yet. Only where speakers are told apart."),
]
KeepChars: TypeAlias = Annotated[
    int | UnsetType,
    means("With `only_new_words`: how many code points of what was sent of the utterance stay."),
]
Waiting: TypeAlias = Annotated[str, means("With `mode=diff`: text that waits for its speakers.")]
Unfinished: TypeAlias = Annotated[str, means("Text that has no final yet.")]
LineSpeaker: TypeAlias = Annotated[int, means("From 1; -2 is silence, 0 not known yet.")]


class Interim(Written, tag_field="type", tag="interim", frozen=True, kw_only=True):
    """Text of the utterance in progress."""

    conn: str
    text: Annotated[str, means("All of it; with `only_new_words` what is new and will stay.")]
    stable_chars: Annotated[
        int, means("Number of code points at the start of `text` that do not change any more.")
    ]
    keep_chars: KeepChars = UNSET
    t0: UnixS
    t1: UnixS


class Segment(Written, frozen=True, kw_only=True):
    """One sentence."""

    start: Annotated[float, means("Seconds from the final's `t0`.")]
    end: Annotated[float, means("Seconds from the final's `t0`.")]
    text: str
    speaker: Speaker = UNSET


class Final(Written, tag_field="type", tag="final", frozen=True, kw_only=True):
    """Text of a finished utterance."""

    conn: str
    text: str
    new_text: Annotated[str | UnsetType, means("With `only_new_words`: the text that is new.")] = UNSET
    keep_chars: KeepChars = UNSET
    speaker: Speaker = UNSET
    segments: list[Segment]
    language: str
    t0: UnixS
    t1: UnixS


class Revision(Written, tag_field="type", tag="speaker_revision", frozen=True, kw_only=True):
    """Who spoke the final of the same `t0` and `t1`, as it is known now."""

    conn: str
    speaker: str | None
    segments: list[Segment]
    t0: UnixS
    t1: UnixS


class LoadStatus(Written, tag_field="type", tag="status", frozen=True, kw_only=True):
    """How busy the server is, and what interims cost because of it."""

    backpressure: Annotated[str, means("How busy.", values=("normal", "high", "critical"))]
    cooldown_ms: int
    tail_s: float
    interim_paused: bool
    stalled: Annotated[
        bool | UnsetType,
        means("True: a model has said nothing for five seconds. False: it says something again."),
    ] = UNSET


class LiveError(Written, tag_field="type", tag="error", frozen=True, kw_only=True):
    """Something was refused or failed."""

    conn: str | None
    code: str
    message: str


class Config(Written, tag_field="type", tag="config", frozen=True, kw_only=True):
    """The greeting of `/asr`."""

    useAudioWorklet: bool = False  # noqa: N815 - the wire's name
    mode: Literal["full", "diff"]


class ReadyToStop(Written, tag_field="type", tag="ready_to_stop", frozen=True, kw_only=True):
    """Everything is transcribed; the socket closes."""


class ClockLine(Written, frozen=True, kw_only=True):
    """A line of `/asr`, times as H:MM:SS."""

    speaker: LineSpeaker
    text: str
    start: str
    end: str
    detected_language: str | UnsetType = UNSET


class SecondsLine(Written, frozen=True, kw_only=True):
    """A line of `/ws`, times in seconds."""

    speaker: LineSpeaker
    text: str
    start: float
    end: float
    detected_language: str | UnsetType = UNSET


class _Whole(Written, frozen=True, kw_only=True):
    status: Status
    lines: list[Any]
    buffer_transcription: Annotated[str, means("Text that may still change.")]
    buffer_diarization: Waiting
    buffer_translation: str
    remaining_time_transcription: float
    remaining_time_transcription_processing: float
    remaining_time_transcription_policy: float
    remaining_time_diarization: float
    error: str | UnsetType = UNSET


class Update(_Whole, frozen=True, kw_only=True):
    """The whole transcript (`/asr`)."""

    lines: list[ClockLine]


class TranscriptUpdate(_Whole, tag_field="type", tag="transcript_update", frozen=True, kw_only=True):
    """The whole transcript (`/ws`)."""

    lines: list[SecondsLine]


class Snapshot(Written, tag_field="type", tag="snapshot", frozen=True, kw_only=True):
    """The first update with `mode=diff`."""

    seq: Literal[1] = 1
    status: Status
    lines: list[ClockLine]
    buffer_transcription: Unfinished
    buffer_diarization: Waiting
    buffer_translation: str
    remaining_time_transcription: float
    remaining_time_transcription_processing: float
    remaining_time_transcription_policy: float
    remaining_time_diarization: float
    error: str | UnsetType = UNSET


class Diff(Written, tag_field="type", tag="diff", frozen=True, kw_only=True):
    """Drop `lines_pruned` lines in front, cut to `n_lines - len(new_lines)`, add `new_lines`."""

    seq: Annotated[int, means("From 2.")]
    status: Status
    n_lines: int
    lines_pruned: int | UnsetType = UNSET
    new_lines: list[ClockLine] | UnsetType = UNSET
    buffer_transcription: Unfinished
    buffer_diarization: Waiting
    buffer_translation: str
    remaining_time_transcription: float
    remaining_time_transcription_processing: float
    remaining_time_transcription_policy: float
    remaining_time_diarization: float
    error: str | UnsetType = UNSET
