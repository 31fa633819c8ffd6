"""What doors and jobs ask of the clips: one Protocol and its records, whatever storage is behind them.

Another room (jobs, say) opens a clip by its id for the key that owns it, and hands the file to the decoder:

    async with clips.opened(clip_id, caller.key_id) as file:
        recording = await asyncio.to_thread(decode_recording, file)
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from serve_app.core.paging import NEWEST, Place


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What decoding found: `format` as `audio.formats` names it; rate and channels of the file itself, before
    resampling. `complete` False: some of it could not be decoded."""

    format: str
    duration_s: float
    sample_rate_hz: int
    num_channels: int
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Clip:
    """One stored recording; times are seconds of the wall clock. From `expires_s` on it is gone."""

    clip_id: str
    created_s: float
    expires_s: float
    num_bytes: int
    sha256: str
    audio: AudioFacts


@dataclass(frozen=True, slots=True)
class ClipPage:
    """Clips of one key, the newest first. `last`: where a page ended that is full."""

    clips: tuple[Clip, ...]
    last: Place | None = None


class Clips(Protocol):
    """The clips of all keys. A key sees its own ones only: those of others are unknown to it.

    Every method raises `StorageUnavailable` where the storage does not answer. Storage is read and written in
    threads, a block at a time.
    """

    async def keep(self, file: BinaryIO, sha256: str, audio: AudioFacts, key_id: str) -> Clip:
        """Store all of `file`, whose hash the caller knows. Raises `QuotaExceeded`."""

    async def find(self, clip_id: str, key_id: str) -> Clip:
        """Raises `UnknownClip`: never there, of another key, deleted, expired, or its storage key is lost."""

    async def newest(self, key_id: str, limit: int, before: Place = NEWEST) -> ClipPage:
        """A key's newest clips that were stored before `before`."""

    def opened(self, clip_id: str, key_id: str) -> AbstractAsyncContextManager[BinaryIO]:
        """The audio as it was uploaded: a file to read and seek in, in a thread. Raises `UnknownClip`."""

    async def delete(self, clip_id: str, key_id: str, *, keep_text: bool = False) -> None:
        """With what was cached of it unless `keep_text`. Raises `UnknownClip`."""
