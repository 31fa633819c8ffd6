"""What the server says on `/ws` and `/asr`: interim and final messages, and WhisperLiveKit's updates.

Records for the API documents; `interim_final` and `whisper_live_kit` write the messages.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from serve_app.protocols.api.native_records import Server

Status = Literal["active_transcription", "no_audio_detected", "error"]


class Interim(Server, tag_field="type", tag="interim", frozen=True, kw_only=True):
    """Text of the utterance in progress; `t0` and `t1` are Unix seconds."""

    conn: str
    text: str
    stable_chars: int
    t0: float
    t1: float
    keep_chars: int | UnsetType = UNSET


class Segment(Server, frozen=True, kw_only=True):
    """One sentence; seconds from the final's `t0`."""

    start: float
    end: float
    text: str
    speaker: str | None | UnsetType = UNSET


class Final(Server, tag_field="type", tag="final", frozen=True, kw_only=True):
    """Text of a finished utterance; `t0` and `t1` are Unix seconds. `speaker`, where they are told apart:
    `SPEAKER_01`, null where nobody knows yet."""

    conn: str
    text: str
    speaker: str | None | UnsetType = UNSET
    segments: list[Segment]
    language: str
    t0: float
    t1: float
    new_text: str | UnsetType = UNSET
    keep_chars: int | UnsetType = UNSET


class Revision(Server, tag_field="type", tag="speaker_revision", frozen=True, kw_only=True):
    """Who spoke the final of the same `t0` and `t1`, as it is known now."""

    conn: str
    speaker: str | None
    segments: list[Segment]
    t0: float
    t1: float


class LoadStatus(Server, tag_field="type", tag="status", frozen=True, kw_only=True):
    """How busy the server is, and what interims cost because of it."""

    backpressure: Literal["normal", "high", "critical"]
    cooldown_ms: int
    tail_s: float
    interim_paused: bool


class LiveError(Server, tag_field="type", tag="error", frozen=True, kw_only=True):
    """Something was refused or failed."""

    conn: str | None
    code: str
    message: str


class Config(Server, tag_field="type", tag="config", frozen=True, kw_only=True):
    """The greeting of `/asr`."""

    useAudioWorklet: bool  # noqa: N815 - the wire's name
    mode: Literal["full", "diff"]


class ReadyToStop(Server, tag_field="type", tag="ready_to_stop", frozen=True, kw_only=True):
    """Everything is transcribed; the socket closes."""


class ClockLine(Server, frozen=True, kw_only=True):
    """A line of `/asr`, times as H:MM:SS; speaker -2 is silence, 0 not known yet."""

    speaker: int
    text: str
    start: str
    end: str
    detected_language: str | UnsetType = UNSET


class SecondsLine(Server, frozen=True, kw_only=True):
    """A line of `/ws`, times in seconds; speaker -2 is silence, 0 not known yet."""

    speaker: int
    text: str
    start: float
    end: float
    detected_language: str | UnsetType = UNSET


class _Rest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: Status
    buffer_transcription: str
    buffer_diarization: str
    buffer_translation: str
    remaining_time_transcription: float
    remaining_time_transcription_processing: float
    remaining_time_transcription_policy: float
    remaining_time_diarization: float
    error: str | UnsetType = UNSET


class Update(_Rest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole transcript (`/asr`); `buffer_transcription` may still change."""

    lines: list[ClockLine]


class TranscriptUpdate(
    _Rest,
    tag_field="type",
    tag="transcript_update",
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """The whole transcript (`/ws`); `buffer_transcription` may still change."""

    lines: list[SecondsLine]


class Snapshot(
    _Rest, tag_field="type", tag="snapshot", frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """The first update with `mode=diff`."""

    seq: Literal[1]
    lines: list[ClockLine]


class Diff(_Rest, tag_field="type", tag="diff", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Drop `lines_pruned` lines in front, cut to `n_lines - len(new_lines)`, add `new_lines`."""

    seq: int
    n_lines: int
    lines_pruned: int | UnsetType = UNSET
    new_lines: list[ClockLine] | UnsetType = UNSET
