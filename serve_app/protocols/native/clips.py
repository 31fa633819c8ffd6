"""Bodies of the clips' doors, and of `POST /api/transcribe`, which transcribes a clip or what is sent to it.

Without a `clip_id` that door is the proxy that browsers' pages know: a few fields, and errors as `{"error"}`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace

from serve_app.clips.ports import Clip, ClipPage
from serve_app.core.paging import MAX_CHARS
from serve_app.protocols.native.transcribe import UploadChoices
from sotto_client import wire
from sotto_client.wire import means

STORED = "File uploaded successfully."
DELETED = "File deleted successfully."


class ClipStored(wire.Written, frozen=True, kw_only=True):
    """A recording is stored here now."""

    clip_id: Annotated[str, means("What finds it again; for the key that stored it only.")]
    message: str = STORED


class ClipDeleted(wire.Written, frozen=True, kw_only=True):
    """A recording is not here any more."""

    clip_id: str
    message: str = DELETED


class ClipInfo(wire.Written, frozen=True, kw_only=True):
    """What is known of a stored recording."""

    clip_id: str
    format: Annotated[str, means("The container, as decoding found it.")]
    duration_s: Annotated[float, means("Seconds of audio.")] = field(name="duration")
    sample_rate: Annotated[int, means("Of the file itself, in Hz.")]
    channels: int
    size_bytes: int
    sha256: Annotated[str, means("Of the file as it was uploaded.")]
    complete: Annotated[bool, means("False: some of it could not be decoded.")]
    created_at: Annotated[str, means("ISO 8601.")]
    expires_at: Annotated[str, means("From when on it is gone, ISO 8601.")]


class ClipList(wire.Written, frozen=True, kw_only=True):
    """Stored recordings of one key, the newest first."""

    clips: tuple[ClipInfo, ...]
    next: Annotated[
        str | UnsetType,
        means("Where older ones may begin: send it as `before`; left out behind the last page."),
    ] = UNSET


class ClipQuery(Struct, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100, description="The largest number to list.")] = 20
    before: (
        Annotated[str, Meta(max_length=MAX_CHARS, description="Go on behind a page: its `next`.")] | None
    ) = None


class StoreChoices(Struct, frozen=True):
    """Nothing is to be chosen when a recording is stored."""


class ErrorText(wire.Written, frozen=True, kw_only=True):
    """Why a recording was not transcribed."""

    error: str


class ClipChoices(UploadChoices, frozen=True, kw_only=True):
    """The choices of one transcription, and of what."""

    clip_id: (
        Annotated[
            str, Meta(max_length=128, description="A stored recording; without it the body is transcribed.")
        ]
        | None
    ) = None
    webhook_url: (
        Annotated[
            str, Meta(max_length=2048, description="Queue it, answer 202, and send the job here in the end.")
        ]
        | None
    ) = None

    def with_diarize(self, wanted: bool) -> ClipChoices:
        return replace(self, diarize=wanted)


class ShortTranscript(wire.Written, frozen=True, kw_only=True):
    """A recording's text (`POST /api/transcribe`, `POST /upload+transcribe`)."""

    transcript: str
    confidence: Annotated[float | None, means("The probability of the language.")]
    language: str
    duration_s: Annotated[float, means("Seconds of audio.")] = field(name="duration")
    segments: tuple[wire.Segment, ...]
    processing_time: wire.ProcessingTime
    cached: bool
    model: str
    cached_at: wire.CachedAt | UnsetType = UNSET
    cache_hit_at: wire.CacheHitAt | UnsetType = UNSET
    words: Annotated[tuple[wire.Word, ...] | UnsetType, means("With `word_timestamps`.")] = UNSET
    num_speakers: Annotated[int | UnsetType, means("Where they were told apart.")] = UNSET
    speakers: Annotated[tuple[str, ...] | UnsetType, means("Their labels.")] = UNSET
    diarization: Annotated[
        str | UnsetType, means("Why speakers are not told apart, where that is what this door does.")
    ] = UNSET
    warning: Annotated[str | UnsetType, means("What is wrong with the audio.")] = UNSET
    complete: Annotated[
        bool | UnsetType, means("Beside a warning: whether all of the audio could be decoded.")
    ] = UNSET


def short_body(body: wire.Transcript, missing_speakers: str = "") -> ShortTranscript:
    """`missing_speakers`: why they are not told apart where they would be."""
    taken = {name: getattr(body, name) for name in ShortTranscript.__struct_fields__ if hasattr(body, name)}
    return ShortTranscript(**taken, diarization=missing_speakers or UNSET)


def clip_info(clip: Clip) -> ClipInfo:
    return ClipInfo(
        clip_id=clip.clip_id,
        format=clip.audio.format,
        duration_s=round(clip.audio.duration_s, 2),
        sample_rate=clip.audio.sample_rate_hz,
        channels=clip.audio.num_channels,
        size_bytes=clip.num_bytes,
        sha256=clip.sha256,
        complete=clip.audio.complete,
        created_at=_when(clip.created_s),
        expires_at=_when(clip.expires_s),
    )


def clip_list(page: ClipPage) -> ClipList:
    place = UNSET if page.last is None else str(page.last)
    return ClipList(clips=tuple(map(clip_info, page.clips)), next=place)


def _when(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")
