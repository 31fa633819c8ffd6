"""Long recordings that are decoded while they are transcribed, block by block, and never held whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from time import perf_counter
from typing import BinaryIO, Final

import numpy as np

from serve_app.audio.formats import ALL_FORMATS
from serve_app.audio.recordings import MAX_SAMPLES, DecodedRecording, PartedRecording
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

BEGINNING_SAMPLES: Final = 60 * SAMPLE_RATE_HZ
"""A recording that ends within this is decoded whole: all that is wrong with it is then known at once."""
BLOCK_SAMPLES: Final = 10 * SAMPLE_RATE_HZ
"""Decoded in one go, in some 5 to 30 ms of a thread."""


class RecordingStream:
    """A recording whose beginning was decoded; the rest is as `blocks` is read, once.

    `warning` and `complete` as in `DecodedRecording`, `duration_s` of what was decoded: all three are known
    for certain when `blocks` has ended. `stated_s`: the length that the container states, if it does. `peak`
    is for who has decoded the file before.
    """

    def __init__(self, recording: PartedRecording, beginning: list[Pcm16], rest: Iterator[Pcm16]) -> None:
        self._recording = recording
        self._beginning = beginning
        self._rest = rest
        self.decode_s = 0.0
        self.peak: int | None = None

    @property
    def stated_s(self) -> float | None:
        return self._recording.stated_s

    @property
    def duration_s(self) -> float:
        return self._recording.decoder.duration_s

    @property
    def warning(self) -> str | None:
        return self._recording.warning

    @property
    def complete(self) -> bool:
        return self._recording.problem is None

    async def blocks(self) -> AsyncIterator[Pcm16]:
        """int16 `(n,)` at 16 kHz; nothing is decoded ahead of its reader. Raises `PayloadTooLarge` where it
        is longer than it may be. Cancelled, a block that a thread is decoding is finished and dropped, unless
        the file is closed before."""
        beginning, self._beginning = self._beginning, []
        for chunk in beginning:
            yield chunk
        del beginning
        while (block := await asyncio.to_thread(self._next_block)) is not None:
            yield block

    def _next_block(self) -> Pcm16 | None:
        began_s = perf_counter()
        chunks: list[Pcm16] = []
        num_samples = 0
        for chunk in self._rest:
            chunks.append(chunk)
            num_samples += len(chunk)
            if num_samples >= BLOCK_SAMPLES:
                break
        self.decode_s += perf_counter() - began_s
        return np.concatenate(chunks) if chunks else None


def open_recording(
    file: BinaryIO,
    *,
    max_samples: int = MAX_SAMPLES,
    allowed_formats: frozenset[str] = ALL_FORMATS,
    audio_track: int | None = None,
    beginning_samples: int = BEGINNING_SAMPLES,
) -> DecodedRecording | RecordingStream:
    """A short recording, whole and mono, or a longer one whose `file` must stay open while it is read.

    Blocking; raises as `decode_recording`, of a long one what is wrong with its beginning.
    """
    began_s = perf_counter()
    recording = PartedRecording(max_samples, allowed_formats, keep_channels=False, audio_track=audio_track)
    rest = recording.opened(file)
    beginning: list[Pcm16] = []
    with suppress(StopIteration):
        num_samples = 0
        while num_samples < beginning_samples:
            beginning.append(next(rest))
            num_samples += len(beginning[-1])
        stream = RecordingStream(recording, beginning, rest)
        stream.decode_s = perf_counter() - began_s
        return stream
    recording.require_sound()
    samples = np.concatenate(beginning)
    return DecodedRecording(samples, recording.format, recording.problem is None, recording.warning)
