"""Raw samples from the wire to int16 mono at 16 kHz, however they are cut into messages.

The resampler is FFmpeg's: it holds back 1 to 2 ms of audio, where soxr's filters hold back 20 to 60 ms,
which a live session would wait for at the end of every utterance.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

import av
import numpy as np
import numpy.typing as npt

from serve_app.core.errors import InvalidAudio
from serve_app.core.samples import BYTES_PER_SAMPLE, EMPTY, FULL_SCALE, SAMPLE_RATE_HZ, Pcm16, join

Encoding: TypeAlias = Literal["pcm16", "float32", "mulaw", "alaw"]

ENCODINGS: Final[tuple[str, ...]] = get_args(Encoding)
SAMPLE_BYTES: Final[MappingProxyType[Encoding, int]] = MappingProxyType(
    {"pcm16": BYTES_PER_SAMPLE, "float32": 4, "mulaw": 1, "alaw": 1}
)
"""Bytes of one sample of one channel."""
MAX_CHANNELS: Final = 8

MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 192_000


class PcmStream:
    """One stream of raw samples, little-endian, channels interleaved and mixed down.

    `push` gives back int16 `(n,)` at 16 kHz; the results joined are the same however the bytes were cut.
    At 16 kHz `pcm16` mono the result is a read-only view of the bytes pushed. Raises `InvalidAudio` for
    a rate, channel count or encoding outside the limits. Call `finish` once at the end.
    """

    __slots__ = ("_channels", "_decode", "_frame_bytes", "_resampler", "_rest", "sample_rate_hz")

    def __init__(
        self, encoding: Encoding = "pcm16", sample_rate_hz: int = SAMPLE_RATE_HZ, channels: int = 1
    ) -> None:
        if encoding not in _DECODERS:
            raise InvalidAudio(f"unknown encoding {encoding!r}: expected {', '.join(ENCODINGS)}")
        if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
            raise InvalidAudio(f"sample rate {sample_rate_hz} Hz: expected {MIN_RATE_HZ} to {MAX_RATE_HZ}")
        if not 1 <= channels <= MAX_CHANNELS:
            raise InvalidAudio(f"{channels} channels: expected 1 to {MAX_CHANNELS}")
        self._decode = _DECODERS[encoding]
        self.sample_rate_hz = sample_rate_hz
        self._channels = channels
        self._frame_bytes = SAMPLE_BYTES[encoding] * channels
        self._rest = b""
        self._resampler = _Resampler(sample_rate_hz) if sample_rate_hz != SAMPLE_RATE_HZ else None

    @property
    def num_dangling_bytes(self) -> int:
        """Bytes of a sample whose rest has not come (after the end: a truncated stream)."""
        return len(self._rest)

    def push(self, data: bytes, *, strict: bool = False) -> Pcm16:
        """Take bytes, give samples.

        `strict`: `data` is one message that must hold whole samples; raises `InvalidAudio` where it does not,
        and the stream goes on as if it had not come. Otherwise a cut sample waits for its other half.
        """
        if strict and (len(data) + len(self._rest)) % self._frame_bytes:
            raise InvalidAudio(f"{len(data)} bytes of audio: expected a multiple of {self._frame_bytes}")
        if self._rest:
            data = self._rest + data
        end = len(data) - len(data) % self._frame_bytes
        self._rest = bytes(data[end:])
        if end == 0:
            return EMPTY
        samples = self._decode(memoryview(data)[:end])
        if self._channels > 1:
            mixed = samples.reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
            samples = np.rint(mixed).astype(np.int16)
        return samples if self._resampler is None else self._resampler.push(samples)

    def finish(self) -> Pcm16:
        """The samples that the resampler held back; a cut sample at the end is dropped."""
        return EMPTY if self._resampler is None else self._resampler.finish()


class _Resampler:
    """int16 mono at one rate to int16 mono at 16 kHz, a few samples behind."""

    __slots__ = ("_rate_hz", "_swr")

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._swr = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)

    def push(self, samples: Pcm16) -> Pcm16:
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = self._rate_hz
        return join([f.to_ndarray()[0] for f in self._swr.resample(frame)])

    def finish(self) -> Pcm16:
        return join([f.to_ndarray()[0] for f in self._swr.resample(None)])


def _pcm16(data: memoryview) -> Pcm16:
    return np.frombuffer(data, "<i2").astype(np.int16, copy=False)


def float_to_pcm16(samples: npt.NDArray[np.float32]) -> Pcm16:
    """float32 in [-1, 1] to int16: what is over is clipped, what is not a number is silence."""
    if not np.isfinite(samples).all():
        samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    scaled: npt.NDArray[np.float32] = np.rint(np.clip(samples, -1.0, 1.0) * np.float32(FULL_SCALE))
    return scaled.clip(max=FULL_SCALE - 1).astype(np.int16)


def _float32(data: memoryview) -> Pcm16:
    return float_to_pcm16(np.frombuffer(data, "<f4"))


def _mulaw_table() -> Pcm16:
    """ITU-T G.711, table 2a: bits inverted; sign, 3 bits of exponent, 4 of mantissa, bias 132."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 15) << 3) + 132 << (code >> 4 & 7)) - 132
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_table() -> Pcm16:
    """ITU-T G.711, table 1a: even bits inverted; sign, 3 bits of exponent, 4 of mantissa."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = code >> 4 & 7, (code & 15) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_MULAW: Final = _mulaw_table()
_ALAW: Final = _alaw_table()

_DECODERS: Final[MappingProxyType[Encoding, Callable[[memoryview], Pcm16]]] = MappingProxyType(
    {
        "pcm16": _pcm16,
        "float32": _float32,
        "mulaw": lambda data: _MULAW[np.frombuffer(data, np.uint8)],
        "alaw": lambda data: _ALAW[np.frombuffer(data, np.uint8)],
    }
)
