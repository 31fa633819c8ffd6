"""FFmpeg's decoders behind one door: open containers in, int16 at 16 kHz out, damage counted.

Used for files (`recordings`) and for containers that are still arriving (`stream_decoder`). Never set
FFmpeg's `nobuffer` flag: the first packet gets lost and every time shifts with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import av
import av.error
import numpy as np

from serve_app.audio.formats import DEMUXERS
from serve_app.audio.resampling import FrameResampler
from serve_app.audio.timeline import Timeline
from serve_app.core.errors import (
    InvalidAudio,
    InvalidMessage,
    PayloadTooLarge,
    UnsupportedFormat,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

_IO_BUFFER_BYTES: Final = 4_096
"""A live container is decoded as soon as this much has come, or what there is when it pauses."""
_SILENCE: Final[Pcm16] = np.zeros(SAMPLE_RATE_HZ, np.int16)
_SILENCE.flags.writeable = False


def open_container(
    source: Any, format_name: str | None, allowed_formats: frozenset[str], *, live: bool = False
) -> Any:
    """Open a binary file-like object with PyAV; `format_name` None: FFmpeg guesses among the allowed ones.

    `live`: begin with the first audio that comes, rather than after a good look at seconds of it.
    Raises `InvalidAudio` on bytes that are no such container or hold no audio. The caller closes the
    container.
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
        if format_name is None:
            expected = ", ".join(sorted(allowed_formats))
            raise InvalidAudio(f"the data is no audio that can be decoded: expected {expected}") from error
        fault = "it is damaged or was cut off near its beginning"
        if format_name == "mp4":
            fault = "its index (moov) is missing or damaged, as in a recording that was never finished"
        raise InvalidAudio(f"the data is no {format_name} that can be decoded: {fault}") from error
    if not container.streams.audio:
        kinds = sorted({stream.type for stream in container.streams})
        container.close()
        raise InvalidAudio("the data holds no audio stream" + (f", only {', '.join(kinds)}" if kinds else ""))
    return container


def audio_stream(container: Any, track: int | None = None) -> Any:
    """The audio track of this number, from 0; None: the one that a player would choose.

    Raises `InvalidMessage` where there is no such track, `UnsupportedFormat` on a codec that we cannot
    decode.
    """
    tracks = container.streams.audio
    if track is not None and track >= len(tracks):
        has = "the only track is 0" if len(tracks) == 1 else f"the tracks are 0 to {len(tracks) - 1}"
        raise InvalidMessage(f"audio_track {track}: there is no such audio track, {has}")
    stream = tracks[track] if track is not None else container.streams.best("audio") or tracks[0]
    if stream.codec_context is None:
        raise UnsupportedFormat("the audio codec is not supported")
    return stream


class AudioDecoder:
    """Decodes containers, one behind the other, to int16 at 16 kHz: mixed to mono, or, with `keep_channels`,
    interleaved. What the times of a container leave out is silence.

    `problem` says after the end what was wrong on the way, and `remark` what was done about sound that is
    whole but odd, if anything. Raises `PayloadTooLarge` once more than `max_samples`, of all channels
    together, were decoded and `InvalidAudio` on an absurd sample rate or on more than 8 channels to keep;
    what came before stands.
    """

    def __init__(self, max_samples: int, *, keep_channels: bool = False) -> None:
        self._max_samples = max_samples
        self._resampler = FrameResampler(keep_channels=keep_channels)
        self._num_bad_packets = 0
        self._ended_early_s: float | None = None
        self._num_lost_samples = 0
        self._unfollowed: str | None = None
        self.num_samples = 0

    @property
    def num_channels(self) -> int:
        """Of what is given; 1 until something was decoded."""
        return self._resampler.num_channels

    @property
    def duration_s(self) -> float:
        """Of what was given."""
        return self.num_samples / self.num_channels / SAMPLE_RATE_HZ

    @property
    def problem(self) -> str | None:
        if self._ended_early_s is not None:
            return f"the data is damaged after {self._ended_early_s:.1f} s"
        if self._num_bad_packets:
            return f"{self._num_bad_packets} damaged packets were skipped"
        if self._num_lost_samples:
            return f"{self._num_lost_samples / SAMPLE_RATE_HZ:.1f} s in the middle could not be decoded"
        return self._unfollowed

    @property
    def remark(self) -> str | None:
        return self._resampler.remark

    def broke_off(self) -> None:
        """What comes after this could not even be opened."""
        if self._ended_early_s is None:
            self._ended_early_s = self.duration_s

    def chunks(
        self, container: Any, stream: Any, start_s: float | None, *, gapless: bool = False
    ) -> Iterator[Pcm16]:
        """Yield samples as they are decoded; damaged packets are skipped, a damaged container ends it.

        `start_s`: the time in the container at which its recording begins; None: that of its first sound.
        `gapless`: a format in which one sample follows the other, so that a gap is damage.
        """
        decoding = _Decoding(Timeline(start_s, self.num_samples // self.num_channels), gapless)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self.broke_off()
                break
            if packet is None:
                break
            if packet.size:  # an empty packet would put the decoder at its end
                yield from self._decode(stream, packet, decoding)
        yield from self._decode(stream, None, decoding)
        if decoding.held is not None:
            yield from self._place(decoding.held, decoding, decoding.held_gap)
        yield from self._count(self._resampler.finish())

    def _decode(self, stream: Any, packet: Any, decoding: _Decoding) -> Iterator[Pcm16]:
        try:
            frames = stream.decode(packet)
        except EOFError:
            return
        except av.error.FFmpegError:
            self._num_bad_packets += 1
            return
        for frame in frames:
            yield from self._arrange(frame, decoding)

    def _arrange(self, frame: Any, decoding: _Decoding) -> Iterator[Pcm16]:
        """Put the frame where it belongs. One behind a gap waits for the next: a wrong time stands alone."""
        time_s = None if frame.pts is None else float(frame.pts * frame.time_base)
        if decoding.held is not None:
            held, decoding.held = decoding.held, None
            believed = time_s is None or time_s >= decoding.held_s
            yield from self._place(held, decoding, decoding.held_gap if believed else 0)
        gap = decoding.timeline.gap(time_s)
        if gap and time_s is not None:
            decoding.held, decoding.held_s, decoding.held_gap = frame, time_s, gap
        else:
            yield from self._place(frame, decoding, 0)

    def _place(self, frame: Any, decoding: _Decoding, gap: int) -> Iterator[Pcm16]:
        timeline = decoding.timeline
        if gap:
            yield from self._count(self._resampler.finish())
            if (timeline.position + gap) * self.num_channels > self._max_samples:
                self._unfollowed = (
                    f"its times jump by {gap / SAMPLE_RATE_HZ:.0f} s at {self.duration_s:.1f} s, "
                    "longer than a recording may be: what follows was joined on at once"
                )
                timeline.follow(decoding.held_s)
            else:
                self._num_lost_samples += gap if decoding.gapless else 0
                yield from self._silence(gap, frame)
                timeline.advance(gap)
        yield from self._count(self._resampler.push(frame))
        timeline.advance(frame.samples * SAMPLE_RATE_HZ / frame.sample_rate)

    def _silence(self, gap: int, frame: Any) -> Iterator[Pcm16]:
        """In pieces of a second: what takes them is bounded."""
        left = gap * self._resampler.settle_channels(frame)
        while left > 0:
            piece = _SILENCE[:left]
            left -= len(piece)
            yield from self._count(piece)

    def _count(self, samples: Pcm16) -> Iterator[Pcm16]:
        if len(samples) == 0:
            return
        self.num_samples += len(samples)
        if self.num_samples > self._max_samples:
            longest_s = self._max_samples / self.num_channels / SAMPLE_RATE_HZ
            each = f", the longest for {self.num_channels} channels" if self.num_channels > 1 else ""
            raise PayloadTooLarge(f"the audio is longer than {longest_s:.0f} s{each}")
        yield samples


class _Decoding:
    """Where one container stands: `held` is a frame behind a gap that no other frame has confirmed yet."""

    __slots__ = ("gapless", "held", "held_gap", "held_s", "timeline")

    def __init__(self, timeline: Timeline, gapless: bool) -> None:
        self.timeline = timeline
        self.gapless = gapless
        self.held: Any = None
        self.held_s = 0.0
        self.held_gap = 0
