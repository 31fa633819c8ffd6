"""Audio frames as FFmpeg decodes them, to int16 at 16 kHz: one channel, or those that there are."""

from __future__ import annotations

from typing import Any, Final

import av
import numpy as np

from serve_app.audio.mixing import Downmix, Samples, is_worth_telling
from serve_app.audio.pcm import MAX_CHANNELS
from serve_app.core.errors import InvalidAudio
from serve_app.core.samples import FULL_SCALE, SAMPLE_RATE_HZ, Pcm16, join

MIN_SOURCE_RATE_HZ: Final = 4_000
MAX_SOURCE_RATE_HZ: Final = 384_000


class FrameResampler:
    """Audio frames of any rate, format and layout, even changing midway, to int16 at 16 kHz.

    Mixed to mono, or with `keep_channels` interleaved, as many channels as the first frame has; FFmpeg mixes
    later ones to these. `remark` says what was done about channels that cancel each other.
    """

    def __init__(self, *, keep_channels: bool = False) -> None:
        self._layout: Any = None if keep_channels else "mono"
        self._setup: tuple[int, str, str] | None = None
        self._swr: Any = None
        self._to_mono: _MonoFrames | None = None
        self._num_cancelled = 0
        self._num_judged = 0
        self.num_channels = 1

    @property
    def remark(self) -> str | None:
        if not is_worth_telling(self._num_cancelled, self._num_judged):
            return None
        return "the channels cancel each other out (opposite phase): the loudest of them was taken"

    def settle_channels(self, frame: Any) -> int:
        """How many channels are given, now that this frame is known to come.

        Raises `InvalidAudio` on more than 8 channels to keep.
        """
        if self._layout is None:
            num_channels = frame.layout.nb_channels
            if num_channels > MAX_CHANNELS:
                raise InvalidAudio(f"{num_channels} channels: expected 1 to {MAX_CHANNELS}")
            self._layout, self.num_channels = frame.layout, num_channels
        return self.num_channels

    def push(self, frame: Any) -> Pcm16:
        """One frame's samples, a few late; 20 ms late where channels are mixed.

        Raises `InvalidAudio` on a rate outside 4 to 384 kHz and on more than 8 channels to keep.
        """
        if not MIN_SOURCE_RATE_HZ <= frame.sample_rate <= MAX_SOURCE_RATE_HZ:
            raise InvalidAudio(
                f"sample rate {frame.sample_rate} Hz: expected {MIN_SOURCE_RATE_HZ} to {MAX_SOURCE_RATE_HZ}"
            )
        self.settle_channels(frame)
        setup = (frame.sample_rate, frame.format.name, frame.layout.name)
        before: list[Pcm16] = []
        if setup != self._setup:
            before = [self.finish()]
            self._swr = av.AudioResampler(format="s16", layout=self._layout, rate=SAMPLE_RATE_HZ)
            self._setup = setup
            mixes = self._layout == "mono" and frame.layout.nb_channels > 1
            self._to_mono = _MonoFrames(frame) if mixes else None
        frame.pts = None  # gaps in the stream's own times must not be filled or dropped here
        frames = [frame] if self._to_mono is None else self._to_mono.push(frame)
        return join([*before, *self._resampled(frames)])

    def finish(self) -> Pcm16:
        """What was held back; afterwards the next frame starts anew."""
        if self._swr is None:
            return join([])
        last: list[Any] = []
        if self._to_mono is not None:
            last = self._to_mono.finish()
            self._num_cancelled += self._to_mono.downmix.num_cancelled
            self._num_judged += self._to_mono.downmix.num_judged
        pieces = self._resampled([*last, None])
        self._setup = self._swr = self._to_mono = None
        return join(pieces)

    def _resampled(self, frames: list[Any]) -> list[Pcm16]:
        return [out.to_ndarray()[0] for frame in frames for out in self._swr.resample(frame)]


class _MonoFrames:
    """Frames of one rate and layout to frames of one channel, float32."""

    def __init__(self, frame: Any) -> None:
        self._rate_hz = frame.sample_rate
        self._num_channels = frame.layout.nb_channels
        self.downmix = Downmix(self._num_channels, self._rate_hz)
        self._matrix: Any = None
        if 2 < self._num_channels <= MAX_CHANNELS:  # FFmpeg knows which of these stands in the middle
            self._matrix = av.AudioResampler(format="s16", layout="mono", rate=self._rate_hz)

    def push(self, frame: Any) -> list[Any]:
        planes = _planes(frame)
        mixed = None
        if self._matrix is not None:
            out = join([part.to_ndarray()[0] for part in self._matrix.resample(frame)])
            mixed = out.astype(np.float32) / np.float32(FULL_SCALE) if len(out) == planes.shape[1] else None
        return self._frames(self.downmix.push(planes, mixed))

    def finish(self) -> list[Any]:
        return self._frames(self.downmix.finish())

    def _frames(self, samples: Samples) -> list[Any]:
        if len(samples) == 0:
            return []
        mono = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
        mono.sample_rate = self._rate_hz
        return [mono]


def _planes(frame: Any) -> Samples:
    """A frame's samples, float32 `(num_channels, n)` in [-1, 1]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    planes: Samples
    if samples.dtype.kind == "f":
        planes = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    elif samples.dtype == np.uint8:
        planes = (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    else:
        planes = (samples / np.float64(2 ** (8 * samples.dtype.itemsize - 1))).astype(np.float32)
    return planes
