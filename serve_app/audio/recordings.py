"""A whole recording, any container, to int16 at 16 kHz: mono, or with its channels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import numpy as np

from serve_app.audio.chains import MAX_PARTS, TOO_MANY_PARTS, FilePart, parts_of, skip_tags
from serve_app.audio.conditioning import peak_of
from serve_app.audio.decoding import AudioDecoder, audio_stream, open_container
from serve_app.audio.formats import (
    ALL_FORMATS,
    FORMATS_WITH_TIMES,
    SNIFF_BYTES,
    known_as,
    require_allowed,
    sniff_format,
)
from serve_app.core.errors import InvalidAudio, UnsupportedFormat
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

MAX_SAMPLES: Final = 4 * 3600 * SAMPLE_RATE_HZ

_FORMATS_THAT_STATE_THEIR_LENGTH: Final = frozenset({"flac", "webm", "mp4", "aiff"})
"""Of the others FFmpeg takes it from the size of the file, which is no news."""
_LENGTH_TOLERANCE_S: Final = 0.25
_MIN_UNKNOWN_BYTES: Final = 0x7FFF_0000
_MIN_ROUND_BYTES: Final = 1 << 24
_HEADER_BYTES: Final = 128
"""What a made-up size may be away from a power of two."""
_FIRST_BLOCK_SAMPLES: Final = 60 * SAMPLE_RATE_HZ
_FORMAT_OF_DEMUXER: Final = {"matroska": "webm", "mov": "mp4"}


@dataclass(frozen=True, slots=True)
class DecodedRecording:
    """`samples` int16 16 kHz, `(n,)` mono or `(n, num_channels)`; `format` as `formats` names it.

    `warning` says what is wrong with it. `complete` False: some of the file could not be decoded, the rest is
    here.
    """

    samples: Pcm16
    format: str
    complete: bool
    warning: str | None

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class ExaminedRecording:
    """What decoding a recording found, without its samples. `sample_rate_hz` and `num_channels` are the
    file's own, `peak` the largest magnitude of the samples; `complete` and `warning` as in
    `DecodedRecording`."""

    format: str
    duration_s: float
    sample_rate_hz: int
    num_channels: int
    complete: bool
    warning: str | None
    peak: int = 0


def decode_recording(
    data: bytes | BinaryIO | Path,
    *,
    max_samples: int = MAX_SAMPLES,
    allowed_formats: frozenset[str] = ALL_FORMATS,
    keep_channels: bool = False,
    audio_track: int | None = None,
) -> DecodedRecording:
    """Decode all of it; blocking, 0.5 to 3 ms of a core per second of audio: call it in a thread.

    Channels are mixed, or with `keep_channels` kept, up to 8 of them. The container is known by its first
    bytes, never by a name. `audio_track`: which of several, from 0; None: as a player would choose. Raises
    `InvalidAudio` where nothing can be decoded, `UnsupportedFormat` for a container that is not allowed,
    `InvalidMessage` for a track that is not there, `PayloadTooLarge` over `max_samples`, of all channels
    together.
    """
    if isinstance(data, Path):
        with data.open("rb") as file:
            return _decode(file, max_samples, allowed_formats, keep_channels, audio_track)
    file_like = io.BytesIO(data) if isinstance(data, bytes) else data
    return _decode(file_like, max_samples, allowed_formats, keep_channels, audio_track)


def _decode(
    file: BinaryIO,
    max_samples: int,
    allowed_formats: frozenset[str],
    keep_channels: bool,
    audio_track: int | None,
) -> DecodedRecording:
    recording = PartedRecording(max_samples, allowed_formats, keep_channels, audio_track)
    samples = _collect(recording.opened(file))
    if keep_channels:
        samples = samples.reshape(-1, recording.decoder.num_channels)
    recording.require_sound()
    return DecodedRecording(samples, recording.format, recording.problem is None, recording.warning)


def examine_recording(
    file: BinaryIO,
    *,
    max_samples: int = MAX_SAMPLES,
    allowed_formats: frozenset[str] = ALL_FORMATS,
    audio_track: int | None = None,
) -> ExaminedRecording:
    """Decode all of it in flat memory, to know that it can be. Blocking; raises as `decode_recording`."""
    recording = PartedRecording(max_samples, allowed_formats, keep_channels=False, audio_track=audio_track)
    peak = 0
    for samples in recording.opened(file):
        peak = max(peak, peak_of(samples))
    recording.require_sound()
    return ExaminedRecording(
        format=recording.format,
        duration_s=recording.decoder.duration_s,
        sample_rate_hz=recording.sample_rate_hz,
        num_channels=recording.num_channels,
        complete=recording.problem is None,
        warning=recording.warning,
        peak=peak,
    )


def _sniffed(file: BinaryIO, allowed_formats: frozenset[str]) -> tuple[str | None, int]:
    """The container by its first bytes, None where FFmpeg has to tell, and where it begins."""
    start = skip_tags(file)
    file.seek(start)
    head = file.read(SNIFF_BYTES)
    if not head:
        raise InvalidAudio("the recording is empty" if start == 0 else "the file holds a tag and no audio")
    format_name = sniff_format(head)
    if format_name is not None:
        require_allowed(format_name, allowed_formats)
    elif (what := known_as(head)) is not None:
        expected = ", ".join(sorted(allowed_formats))
        raise InvalidAudio(f"the data is {what}, no audio that can be decoded: expected {expected}")
    return format_name, start


class PartedRecording:
    """One file on its way through the decoder, part by part. `stated_s`: the length that its first part
    states, None where it does not."""

    def __init__(
        self,
        max_samples: int,
        allowed_formats: frozenset[str],
        keep_channels: bool,
        audio_track: int | None,
    ) -> None:
        self.decoder = AudioDecoder(max_samples, keep_channels=keep_channels)
        self._allowed_formats = allowed_formats
        self._audio_track = audio_track
        self.format = ""
        self.sample_rate_hz = self.num_channels = 0
        self.missing: str | None = None
        self.stated_s: float | None = None

    @property
    def problem(self) -> str | None:
        return self.decoder.problem or self.missing

    @property
    def warning(self) -> str | None:
        notes = [note for note in (self.problem, self.decoder.remark) if note is not None]
        return "; ".join(notes) or None

    def require_sound(self) -> None:
        if self.decoder.num_samples == 0:
            raise InvalidAudio(f"no audio could be decoded from the {self.format} data: it holds no sound")

    def opened(self, file: BinaryIO) -> Iterator[Pcm16]:
        """All samples of `file`, from whatever is at its start."""
        yield from self.chunks(file, *_sniffed(file, self._allowed_formats))

    def chunks(self, file: BinaryIO, format_name: str | None, start: int) -> Iterator[Pcm16]:
        """All samples; only the first part must be one that can be decoded."""
        if format_name is None:
            size = file.seek(0, io.SEEK_END)
            yield from self._part(FilePart(file, start, size), None)
            return
        for index, part in enumerate(parts_of(file, format_name, start)):
            if index == MAX_PARTS:
                self.missing = TOO_MANY_PARTS
                return
            try:
                yield from self._part(part, format_name)
            except (InvalidAudio, UnsupportedFormat):
                if index == 0:
                    raise
                self.decoder.broke_off()

    def _part(self, part: FilePart, format_name: str | None) -> Iterator[Pcm16]:
        container = open_container(part, format_name, self._allowed_formats)
        with container:
            if format_name is None:
                demuxer = container.format.name.partition(",")[0]
                format_name = _FORMAT_OF_DEMUXER.get(demuxer, demuxer)
            self.format = format_name
            if self.stated_s is None and container.duration:
                self.stated_s = container.duration / av.time_base
            stream = audio_stream(container, self._audio_track)
            start_s = _start_s(container, stream, format_name)
            before_s = self.decoder.duration_s
            gapless = format_name not in FORMATS_WITH_TIMES
            yield from self.decoder.chunks(container, stream, start_s, gapless=gapless)
            if not self.sample_rate_hz:  # of the first part, known for certain once it was decoded
                self.sample_rate_hz = stream.codec_context.sample_rate or 0
                self.num_channels = stream.codec_context.channels or 0
            decoded_s = self.decoder.duration_s - before_s
            if self.missing is None:
                self.missing = _missing_rest(container, stream, part, format_name, decoded_s, start_s)


def _start_s(container: Any, stream: Any, format_name: str) -> float | None:
    """The time at which a player begins: that of what is first, picture or sound.

    Files that state their own length count it from 0, an MP4 with an index (ISO 14496-12, section 8.6.6) and
    a Matroska with a duration; without one, they may be cut out of a stream that has been going on for long.
    """
    if container.start_time is None:
        return None
    if format_name == "mp4" and stream.frames > 0:
        return 0.0
    if format_name == "webm" and container.duration and container.duration >= container.start_time:
        return 0.0
    return float(container.start_time / av.time_base)


def _collect(chunks: Iterator[Pcm16]) -> Pcm16:
    """All chunks in one array that grows in place, so that a long recording is never in memory twice."""
    samples = np.empty(_FIRST_BLOCK_SAMPLES, np.int16)
    length = 0
    for chunk in chunks:
        if length + len(chunk) > len(samples):
            # No view of the array exists; a big one is moved by the kernel, not copied.
            samples.resize(max(length + len(chunk), len(samples) * 3 // 2), refcheck=False)
        samples[length : length + len(chunk)] = chunk
        length += len(chunk)
    samples.resize(length, refcheck=False)
    return samples


def _missing_rest(
    container: Any, stream: Any, part: FilePart, format_name: str, decoded_s: float, start_s: float | None
) -> str | None:
    """A file cut short decodes without an error: compare with the length that it states itself."""
    part.seek(0)
    head = part.read(SNIFF_BYTES)
    if format_name == "wav":
        return missing_bytes(head, part.seek(0, io.SEEK_END))
    if format_name not in _FORMATS_THAT_STATE_THEIR_LENGTH or not _states_its_size(format_name, head):
        return None
    if stream.duration:
        begins_s = 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)
        late_s = max(0.0, begins_s - start_s) if start_s is not None else 0.0
        stated_s = late_s + float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:  # with a film it may be the picture's
        stated_s = container.duration / av.time_base
    else:
        return None
    if stated_s - decoded_s <= _LENGTH_TOLERANCE_S:
        return None
    return f"the recording states {stated_s:.1f} s, {decoded_s:.1f} s of it could be decoded"


def missing_bytes(head: bytes, size: int) -> str | None:
    """Compare the size in a RIFF header with the bytes that are there; what to say of fewer."""
    stated = int.from_bytes(head[4:8], "little") + 8
    if head[:4] != b"RIFF" or not _states_its_size("wav", head) or size >= stated - 1:
        return None
    return f"the recording states {stated} bytes, {size} came"


def _states_its_size(format_name: str, head: bytes) -> bool:
    """Writers that stream put a size in front that they made up: none, nearly the largest, a power of two."""
    if format_name not in ("wav", "aiff"):
        return True
    size = int.from_bytes(head[4:8], "little" if format_name == "wav" else "big")
    if size >= _MIN_ROUND_BYTES:
        power = 1 << (size + _HEADER_BYTES).bit_length() - 1
        return size < _MIN_UNKNOWN_BYTES and abs(size - power) > _HEADER_BYTES
    return size > 0
