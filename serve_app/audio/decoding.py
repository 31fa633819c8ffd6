"""FFmpeg's decoders behind one door: an open container in, int16 at 16 kHz out, damage counted.

Used for files (`recordings`) and for containers that are still arriving (`stream_decoder`). Never set
FFmpeg's `nobuffer` flag: the first packet gets lost and every time shifts with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import av
import av.error
import numpy as np

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.audio.formats import DEMUXERS
from serve_app.audio.pcm import MAX_CHANNELS, float_to_pcm16, join
from serve_app.errors import InvalidAudio, PayloadTooLarge, UnsupportedFormat

MIN_SOURCE_RATE_HZ: Final = 4_000
MAX_SOURCE_RATE_HZ: Final = 384_000

_IO_BUFFER_BYTES: Final = 4_096
"""A live container is decoded as soon as this much has come, or whatever there is when it pauses."""


def open_container(
    source: Any, format_name: str | None, allowed_formats: frozenset[str], *, live: bool = False
) -> Any:
    """Open a binary file-like object with PyAV; `format_name` None: FFmpeg guesses among the allowed ones.

    `live`: begin with the first audio that comes, rather than after a good look at seconds of it.
    Raises `InvalidAudio` on bytes that are no such container or hold no audio, `UnsupportedFormat` on a
    codec that we cannot decode. The caller closes the container.
    """
    options = {
        "format_whitelist": ",".join(sorted(DEMUXERS[name] for name in allowed_formats)) or "none",
        "protocol_whitelist": "none",  # the bytes are all there is: no container may open anything else
    }
    if live:
        options |= {"analyzeduration": "1", "probesize": "2048"}
    demuxer = None if format_name is None else DEMUXERS[format_name]
    try:
        container = av.open(
            source,
            "r",
            format=demuxer,
            options=options,
            buffer_size=_IO_BUFFER_BYTES,
            metadata_errors="ignore",
        )
    except av.error.FFmpegError as error:
        raise InvalidAudio(f"the data is no {format_name or 'audio'} that can be decoded") from error
    try:
        if not container.streams.audio:
            raise InvalidAudio("the data holds no audio stream")
        if container.streams.audio[0].codec_context is None:
            raise UnsupportedFormat("the audio codec is not supported")
    except BaseException:
        container.close()
        raise
    return container


class AudioDecoder:
    """Decodes the first audio stream of an open container to int16 at 16 kHz: mixed to mono, or, with
    `keep_channels`, interleaved.

    `problem` says after the end what was wrong on the way, if anything. Raises `PayloadTooLarge` once more
    than `max_samples`, of all channels together, were decoded and `InvalidAudio` on an absurd sample rate or
    on more than 8 channels to keep; what came before stands.
    """

    def __init__(self, container: Any, max_samples: int, *, keep_channels: bool = False) -> None:
        self._container = container
        self._stream = container.streams.audio[0]
        self._max_samples = max_samples
        self._resampler = FrameResampler(keep_channels=keep_channels)
        self._num_bad_packets = 0
        self._ended_early = False
        self.num_samples = 0

    @property
    def num_channels(self) -> int:
        """Of what is given; 1 until something was decoded."""
        return self._resampler.num_channels

    @property
    def problem(self) -> str | None:
        if self._ended_early:
            decoded_s = self.num_samples / self.num_channels / SAMPLE_RATE_HZ
            return f"the data is damaged after {decoded_s:.1f} s"
        if self._num_bad_packets:
            return f"{self._num_bad_packets} damaged packets were skipped"
        return None

    def chunks(self) -> Iterator[Pcm16]:
        """Yield samples as they are decoded; damaged packets are skipped, a damaged container ends it."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self._ended_early = True
                break
            if packet is None:
                break
            if packet.size:  # an empty packet would put the decoder at its end
                yield from self._decode(packet)
        yield from self._decode(None)
        yield from self._count(self._resampler.finish())

    def _decode(self, packet: Any) -> Iterator[Pcm16]:
        try:
            frames = self._stream.decode(packet)
        except EOFError:
            return
        except av.error.FFmpegError:
            self._num_bad_packets += 1
            return
        for frame in frames:
            yield from self._count(self._resampler.push(frame))

    def _count(self, samples: Pcm16) -> Iterator[Pcm16]:
        if len(samples) == 0:
            return
        self.num_samples += len(samples)
        if self.num_samples > self._max_samples:
            longest_s = self._max_samples / self.num_channels / SAMPLE_RATE_HZ
            each = f", the longest for {self.num_channels} channels" if self.num_channels > 1 else ""
            raise PayloadTooLarge(f"the audio is longer than {longest_s:.0f} s{each}")
        yield samples


class FrameResampler:
    """Audio frames of any rate, format and layout, even changing midway, to int16 at 16 kHz.

    Mixed to mono, or with `keep_channels` interleaved, as many channels as the first frame has; FFmpeg mixes
    later ones to these.
    """

    def __init__(self, *, keep_channels: bool = False) -> None:
        self._layout: Any = None if keep_channels else "mono"
        self._setup: tuple[int, str, str] | None = None
        self._swr: Any = None
        self.num_channels = 1

    def push(self, frame: Any) -> Pcm16:
        """One frame's samples, a few late.

        Raises `InvalidAudio` on a rate outside 4 to 384 kHz and on more than 8 channels to keep.
        """
        if not MIN_SOURCE_RATE_HZ <= frame.sample_rate <= MAX_SOURCE_RATE_HZ:
            raise InvalidAudio(
                f"sample rate {frame.sample_rate} Hz: expected {MIN_SOURCE_RATE_HZ} to {MAX_SOURCE_RATE_HZ}"
            )
        num_channels = frame.layout.nb_channels
        if self._layout is None:
            if num_channels > MAX_CHANNELS:
                raise InvalidAudio(f"{num_channels} channels: expected 1 to {MAX_CHANNELS}")
            self._layout, self.num_channels = frame.layout, num_channels
        setup = (frame.sample_rate, frame.format.name, frame.layout.name)
        before: list[Pcm16] = []
        if setup != self._setup:
            before = [self.finish()]
            self._swr = av.AudioResampler(format="s16", layout=self._layout, rate=SAMPLE_RATE_HZ)
            self._setup = setup
        if num_channels > MAX_CHANNELS:
            frame = _mean_of_channels(frame)
        frame.pts = None  # gaps in the stream's own times must not be filled or dropped here
        return join([*before, *(out.to_ndarray()[0] for out in self._swr.resample(frame))])

    def finish(self) -> Pcm16:
        """What was held back; afterwards the next frame starts anew."""
        if self._swr is None:
            return join([])
        self._setup = None
        swr, self._swr = self._swr, None
        return join([out.to_ndarray()[0] for out in swr.resample(None)])


def _mean_of_channels(frame: Any) -> Any:
    """FFmpeg's mixer knows no layout of this many channels: the plain mean, int16."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype.kind == "f":
        mixed = samples.mean(axis=0, dtype=np.float32)
    else:
        full_scale = 128.0 if samples.dtype == np.uint8 else float(2 ** (8 * samples.dtype.itemsize - 1))
        offset = 128.0 if samples.dtype == np.uint8 else 0.0
        mixed = ((samples.mean(axis=0, dtype=np.float64) - offset) / full_scale).astype(np.float32)
    mono = av.AudioFrame.from_ndarray(float_to_pcm16(mixed)[np.newaxis], format="s16", layout="mono")
    mono.sample_rate = frame.sample_rate
    return mono
