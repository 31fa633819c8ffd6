"""A whole recording, any container, to int16 at 16 kHz: mono, or with its channels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import numpy as np

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.audio.decoding import AudioDecoder, open_container
from serve_app.audio.formats import ALL_FORMATS, SNIFF_BYTES, require_allowed, sniff_format
from serve_app.errors import InvalidAudio

MAX_SAMPLES: Final = 4 * 3600 * SAMPLE_RATE_HZ

_FORMATS_THAT_STATE_THEIR_LENGTH: Final = frozenset({"flac", "webm", "mp4", "aiff"})
"""Of the others FFmpeg takes it from the size of the file, which is no news."""
_LENGTH_TOLERANCE_S: Final = 0.25
_MIN_UNKNOWN_RIFF_BYTES: Final = 0x7FFF_0000
"""Writers that stream a WAV state a size near 2 or 4 GiB: they do not know it."""
_FIRST_BLOCK_SAMPLES: Final = 60 * SAMPLE_RATE_HZ
_FORMAT_OF_DEMUXER: Final = {"matroska": "webm", "mov": "mp4"}


@dataclass(frozen=True, slots=True)
class DecodedRecording:
    """`samples` int16 16 kHz, `(n,)` mono or `(n, num_channels)`; `format` as `formats` names it.

    `complete` False: some of the file could not be decoded, and `warning` says what; the rest is here.
    """

    samples: Pcm16
    format: str
    complete: bool
    warning: str | None

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


def decode_recording(
    data: bytes | BinaryIO | Path,
    *,
    max_samples: int = MAX_SAMPLES,
    allowed_formats: frozenset[str] = ALL_FORMATS,
    keep_channels: bool = False,
) -> DecodedRecording:
    """Decode all of it; blocking, 0.5 to 3 ms of a core per second of audio: call it in a thread.

    Channels are mixed, or with `keep_channels` kept, up to 8 of them. The container is known by its first
    bytes, never by a name. Raises `InvalidAudio` where nothing can be decoded, `UnsupportedFormat` for a
    container that is not allowed, `PayloadTooLarge` over `max_samples`, of all channels together.
    """
    if isinstance(data, Path):
        with data.open("rb") as file:
            return _decode(file, max_samples, allowed_formats, keep_channels)
    file_like = io.BytesIO(data) if isinstance(data, bytes) else data
    return _decode(file_like, max_samples, allowed_formats, keep_channels)


def _decode(
    file: BinaryIO, max_samples: int, allowed_formats: frozenset[str], keep_channels: bool
) -> DecodedRecording:
    head = file.read(SNIFF_BYTES)
    file.seek(0)
    if not head:
        raise InvalidAudio("the recording is empty")
    format_name = sniff_format(head)
    if format_name is not None:
        require_allowed(format_name, allowed_formats)
    container = open_container(file, format_name, allowed_formats)
    with container:
        if format_name is None:
            demuxer = container.format.name.partition(",")[0]
            format_name = _FORMAT_OF_DEMUXER.get(demuxer, demuxer)
        decoder = AudioDecoder(container, max_samples, keep_channels=keep_channels)
        samples = _collect(decoder)
        if keep_channels:
            samples = samples.reshape(-1, decoder.num_channels)
        if len(samples) == 0:
            raise InvalidAudio(f"no audio could be decoded from the {format_name} data")
        warning = decoder.problem or _missing_rest(container, format_name, len(samples))
        if warning is None and format_name == "wav":
            warning = _missing_bytes(head, file)
    return DecodedRecording(samples, format_name, complete=warning is None, warning=warning)


def _collect(decoder: AudioDecoder) -> Pcm16:
    """All chunks in one array that grows in place, so that a long recording is never in memory twice."""
    samples = np.empty(_FIRST_BLOCK_SAMPLES, np.int16)
    length = 0
    for chunk in decoder.chunks():
        if length + len(chunk) > len(samples):
            # No view of the array exists; a big one is moved by the kernel, not copied.
            samples.resize(max(length + len(chunk), len(samples) * 3 // 2), refcheck=False)
        samples[length : length + len(chunk)] = chunk
        length += len(chunk)
    samples.resize(length, refcheck=False)
    return samples


def _missing_rest(container: Any, format_name: str, num_samples: int) -> str | None:
    """A file cut short decodes without an error: compare with the length that it states itself."""
    if format_name not in _FORMATS_THAT_STATE_THEIR_LENGTH:
        return None
    stream = container.streams.audio[0]
    if stream.duration:
        stated_s = float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:  # with a film it may be the picture's
        stated_s = container.duration / av.time_base
    else:
        return None
    decoded_s = num_samples / SAMPLE_RATE_HZ
    if stated_s - decoded_s <= _LENGTH_TOLERANCE_S:
        return None
    return f"the recording states {stated_s:.1f} s, {decoded_s:.1f} s of it could be decoded"


def _missing_bytes(head: bytes, file: BinaryIO) -> str | None:
    """Compare the size in a RIFF header with what is there."""
    stated = int.from_bytes(head[4:8], "little") + 8
    size = file.seek(0, io.SEEK_END)
    if head[:4] != b"RIFF" or stated >= _MIN_UNKNOWN_RIFF_BYTES or size >= stated - 1:
        return None
    return f"the recording states {stated} bytes, {size} came"
