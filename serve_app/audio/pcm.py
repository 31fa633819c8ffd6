"""Raw samples from the wire to int16 mono at 16 kHz, however they are cut into messages.

The resampler is FFmpeg's: it holds back 1 to 2 ms of audio, where soxr's filters hold back 20 to 60 ms,
which a live session would wait for at the end of every utterance.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

import av
import numpy as np
import numpy.typing as npt

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.audio.rates import MAX_RATE_HZ, MIN_RATE_HZ
from serve_app.errors import InvalidAudio

Encoding: TypeAlias = Literal["pcm16", "float32", "mulaw", "alaw"]

ENCODINGS: Final[tuple[str, ...]] = get_args(Encoding)
MAX_CHANNELS: Final = 8

EMPTY: Final[Pcm16] = np.zeros(0, np.int16)
EMPTY.flags.writeable = False


class PcmStream:
    """One stream of raw samples, little-endian, channels interleaved and mixed down.

    `push` gives back int16 `(n,)` at 16 kHz; the results joined are the same however the bytes were cut.
    At 16 kHz `pcm16` mono the result is a read-only view of the bytes pushed. Raises `InvalidAudio` for
    a rate, channel count or encoding outside the limits. Call `finish` once at the end.
    """

    __slots__ = ("_channels", "_decode", "_frame_bytes", "_resampler", "_rest", "sample_rate_hz")

    def __init__(self, encoding: Encoding = "pcm16", sample_rate_hz: int = 16_000, channels: int = 1) -> None:
        if encoding not in _DECODERS:
            raise InvalidAudio(f"unknown encoding {encoding!r}: expected {', '.join(ENCODINGS)}")
        if not MIN_RATE_HZ <= sample_rate_hz <= MAX_RATE_HZ:
            raise InvalidAudio(f"sample rate {sample_rate_hz} Hz: expected {MIN_RATE_HZ} to {MAX_RATE_HZ}")
        if not 1 <= channels <= MAX_CHANNELS:
            raise InvalidAudio(f"{channels} channels: expected 1 to {MAX_CHANNELS}")
        sample_bytes, self._decode = _DECODERS[encoding]
        self.sample_rate_hz = sample_rate_hz
        self._channels = channels
        self._frame_bytes = sample_bytes * channels
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


def join(chunks: list[npt.NDArray[Any]]) -> Pcm16:
    """One int16 array of several; no copy for one, `EMPTY` for none."""
    if not chunks:
        return EMPTY
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)


def _pcm16(data: memoryview) -> Pcm16:
    return np.frombuffer(data, "<i2").astype(np.int16, copy=False)


def float_to_pcm16(samples: npt.NDArray[np.float32]) -> Pcm16:
    """float32 in [-1, 1] to int16: what is over is clipped, what is not a number is silence."""
    if not np.isfinite(samples).all():
        samples = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    scaled: npt.NDArray[np.float32] = np.rint(np.clip(samples, -1.0, 1.0) * np.float32(32_768))
    return scaled.clip(max=32_767).astype(np.int16)


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

_DECODERS: Final[MappingProxyType[str, tuple[int, Callable[[memoryview], Pcm16]]]] = MappingProxyType(
    {
        "pcm16": (2, _pcm16),
        "float32": (4, _float32),
        "mulaw": (1, lambda data: _MULAW[np.frombuffer(data, np.uint8)]),
        "alaw": (1, lambda data: _ALAW[np.frombuffer(data, np.uint8)]),
    }
)
