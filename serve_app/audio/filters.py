"""Linear filters whose output does not depend, to the last bit, on how the samples were cut into chunks.

A recursion `z[n] = p z[n-1] + x[n]` is a running sum once both sides are divided by `p^n`. The powers are
taken from absolute block borders, and a running sum adds in order wherever it starts, so that every sample
goes through the same roundings in a chunk of one as in a chunk of a minute, at the speed of numpy.
"""

from __future__ import annotations

import cmath
import math
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Signal: TypeAlias = npt.NDArray[np.float64]
"""Samples between stages, float64 `(n,)` in [-1, 1], or more before the limiter."""

StageState: TypeAlias = tuple[float, ...]
"""What a stage remembers: a few plain numbers, fit for a checkpoint."""

BLOCK_SAMPLES: Final = 1024

DC_CORNER_HZ: Final = 5.0

_TINY: Final = 1e-30
_POLE_MIN: Final = 0.55
"""Below it `p^-1024` would leave the range of a float64."""


class PoleSection:
    """`y[n] = direct x[n] + Re(2 residue z[n])`, `z[n] = pole z[n-1] + x[n]`: one pair of conjugate poles.

    A real pole takes half of its residue. Raises `ValueError` for a pole that is unstable or too fast.
    """

    __slots__ = ("_direct", "_im", "_in_im", "_in_re", "_offset", "_out_im", "_out_re", "_re", "_step")

    def __init__(self, direct: float, residue: complex, pole: complex) -> None:
        if not _POLE_MIN <= abs(pole) < 1:
            raise ValueError(f"expected a pole of magnitude {_POLE_MIN} to 1, got {abs(pole):.3f}")
        self._direct = direct
        powers = pole ** np.arange(1, BLOCK_SAMPLES + 1)
        self._in_re = np.ascontiguousarray((1 / powers).real)
        self._in_im = np.ascontiguousarray((1 / powers).imag)
        self._out_re = np.ascontiguousarray((2 * residue * powers).real)
        self._out_im = np.ascontiguousarray((-2 * residue * powers).imag)
        self._step = complex(powers[-1])
        self._offset = 0
        self._re = self._im = 0.0

    @property
    def state(self) -> StageState:
        """Samples into the block, and the scaled running sum up to there."""
        return self._offset, self._re, self._im

    def restore(self, state: StageState) -> None:
        """Go on from where `state` was read. Raises `ValueError` for an offset outside the block."""
        offset, re, im = state
        self._offset = whole_offset(offset, BLOCK_SAMPLES)
        self._re, self._im = re, im

    def process(self, samples: Signal) -> Signal:
        """As many samples out as in, float64 `(n,)`."""
        filtered = np.empty_like(samples)
        start = 0
        while start < len(samples):
            end = min(len(samples), start + BLOCK_SAMPLES - self._offset)
            filtered[start:end] = self._within_block(samples[start:end])
            start = end
        return filtered

    def _within_block(self, samples: Signal) -> Signal:
        here = slice(self._offset, self._offset + len(samples))
        re = _running_sum(self._re, samples * self._in_re[here])
        im = _running_sum(self._im, samples * self._in_im[here])
        self._re, self._im = float(re[-1]), float(im[-1])
        self._offset = here.stop
        if here.stop == BLOCK_SAMPLES:
            self._begin_block()
        filtered: Signal = samples * self._direct
        filtered += re * self._out_re[here]
        filtered += im * self._out_im[here]
        return filtered

    def _begin_block(self) -> None:
        """Scale the sum to the new block's powers; what has faded away is zero, lest it become denormal."""
        carried = complex(self._re, self._im) * self._step
        if abs(carried) < _TINY:
            carried = 0j
        self._offset, self._re, self._im = 0, carried.real, carried.imag


def _running_sum(carried: float, terms: Signal) -> Signal:
    """Sums up to each term, added strictly from left to right after `carried`."""
    terms[0] += carried
    return np.add.accumulate(terms, out=terms)


def whole_offset(offset: float, period: int) -> int:
    """Where a restored stage stands in its block or hop. Raises `ValueError` outside `[0, period)`."""
    if offset != int(offset) or not 0 <= offset < period:
        raise ValueError(f"expected an offset of 0 to {period - 1}, got {offset}")
    return int(offset)


def dc_removal(rate_hz: int) -> list[PoleSection]:
    """One pole and a zero at 0 Hz: `y[n] = x[n] - x[n-1] + R y[n-1]`, -3 dB at 5 Hz."""
    radius = math.exp(-2 * math.pi * DC_CORNER_HZ / rate_hz)
    # (1 - z^-1) / (1 - R z^-1) in partial fractions.
    direct = 1 / radius
    return [PoleSection(direct, (1 - direct) / 2, radius)]


def high_pass(cutoff_hz: float, order: int, rate_hz: int) -> list[PoleSection]:
    """A Butterworth high-pass of an even order as a chain of biquads, -3 dB at `cutoff_hz`.

    The biquads are those of R. Bristow-Johnson's "Audio EQ Cookbook" (HPF).
    """
    qs = [1 / (2 * math.cos(math.pi * (2 * k + 1) / (2 * order))) for k in range(order // 2)]
    return [_high_pass_biquad(cutoff_hz, q, rate_hz) for q in qs]


def _high_pass_biquad(cutoff_hz: float, q: float, rate_hz: int) -> PoleSection:
    """One biquad in partial fractions; `q` must be over 0.5 (conjugate poles)."""
    omega = 2 * math.pi * cutoff_hz / rate_hz
    alpha = math.sin(omega) / (2 * q)
    scale = (1 + math.cos(omega)) / (2 * (1 + alpha))
    a1, a2 = -2 * math.cos(omega) / (1 + alpha), (1 - alpha) / (1 + alpha)
    pole = (-a1 + cmath.sqrt(a1 * a1 - 4 * a2)) / 2
    # scale (z - 1)^2 / ((z - p)(z - p*)) = scale / a2 + 2 Re(r / (1 - p z^-1))
    residue = scale * (pole - 1) ** 2 / (pole * (pole - pole.conjugate()))
    return PoleSection(scale / a2, residue, pole)
