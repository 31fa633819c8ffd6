"""The one format of audio behind the doors, mono int16 at 16 kHz, and its arithmetic."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ: Final = 16_000
BYTES_PER_SAMPLE: Final = 2
FULL_SCALE: Final = 32_768.0
"""The level of int16 samples that is 1.0 in floats."""

Pcm16: TypeAlias = npt.NDArray[np.int16]
"""Mono 16 kHz samples, int16 `(num_samples,)`."""

EMPTY: Final[Pcm16] = np.zeros(0, np.int16)
EMPTY.flags.writeable = False


def ms_to_samples(ms: float) -> int:
    return round(ms * SAMPLE_RATE_HZ / 1000)


def as_float(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """Samples as float32 in [-1, 1), of the same shape."""
    return samples.astype(np.float32) / np.float32(FULL_SCALE)


def join(chunks: list[npt.NDArray[Any]]) -> Pcm16:
    """One int16 array of several; no copy for one, `EMPTY` for none."""
    if not chunks:
        return EMPTY
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
