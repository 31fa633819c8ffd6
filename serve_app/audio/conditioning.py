"""What a stream's sound goes through before it is recognised, where a client or an operator asks for it.

In this order: DC removal, high-pass, gain (fixed or automatic), compression, limiter. All are off by
default: Whisper is trained on raw sound and normalises the level of what it sees itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from serve_app.audio.dynamics import AutoGain, from_db, limit
from serve_app.audio.filters import (
    FilterChain,
    FilterSpec,
    Signal,
    compressor,
    dc_removal,
    fixed_gain,
    high_pass,
)
from serve_app.core.samples import FULL_SCALE, SAMPLE_RATE_HZ, Pcm16

MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 48_000
MAX_BLOCK_SAMPLES: Final = 1 << 20
"""Recordings are worked on in blocks, which bounds memory; libavfilter takes no more than 2 GiB at a time."""


@dataclass(frozen=True, slots=True)
class ConditioningOptions:
    """Which stages run and how; every stage is off by default. Raises `ValueError` on a senseless value.

    `gain_db` is a fixed gain; `auto_gain` brings speech to `auto_gain_target_dbfs` (mean power) within
    `auto_gain_max_db` up or down. The compressor works on peaks; its makeup gain is added behind it. Without
    `limiter` what passes full scale is clipped, never wrapped.
    """

    dc_removal: bool = False
    high_pass: bool = False
    high_pass_hz: float = 80.0
    high_pass_order: int = 4
    gain_db: float = 0.0
    auto_gain: bool = False
    auto_gain_target_dbfs: float = -23.0
    auto_gain_max_db: float = 30.0
    compressor: bool = False
    compressor_threshold_dbfs: float = -20.0
    compressor_ratio: float = 2.0
    compressor_attack_ms: float = 5.0
    compressor_release_ms: float = 100.0
    compressor_makeup_db: float = 0.0
    limiter: bool = False

    def __post_init__(self) -> None:
        _require("high_pass_hz", self.high_pass_hz, 20, 400)
        if self.high_pass_order not in (2, 4):
            raise ValueError(f"high_pass_order: expected 2 or 4, got {self.high_pass_order}")
        _require("gain_db", self.gain_db, -60, 60)
        _require("auto_gain_target_dbfs", self.auto_gain_target_dbfs, -50, -6)
        _require("auto_gain_max_db", self.auto_gain_max_db, 0, 60)
        _require("compressor_threshold_dbfs", self.compressor_threshold_dbfs, -60, 0)
        _require("compressor_ratio", self.compressor_ratio, 1, 20)
        _require("compressor_attack_ms", self.compressor_attack_ms, 0.1, 500)
        _require("compressor_release_ms", self.compressor_release_ms, 1, 2_000)
        _require("compressor_makeup_db", self.compressor_makeup_db, 0, 30)
        if self.auto_gain and self.gain_db != 0:
            raise ValueError("gain_db and auto_gain: expected at most one of them")

    @property
    def any(self) -> bool:
        """Whether anything at all is done to the sound."""
        return (
            self.dc_removal
            or self.high_pass
            or self.gain_db != 0
            or self.auto_gain
            or self.compressor
            or self.limiter
        )


class Conditioner:
    """Conditions one stream: sample in, sample out, the same for any chunks.

    Raises `ValueError` for a rate outside 8 to 48 kHz. With every stage off, samples pass untouched, without
    a copy.
    """

    def __init__(self, options: ConditioningOptions, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        _require("rate_hz", rate_hz, MIN_RATE_HZ, MAX_RATE_HZ)
        self._options = options
        filters = _filters(options)
        self._stages: list[FilterChain | AutoGain] = []
        if options.auto_gain:
            if filters:
                self._stages.append(FilterChain(filters, rate_hz))
            self._stages.append(AutoGain(options.auto_gain_target_dbfs, options.auto_gain_max_db, rate_hz))
            filters = []
        if options.compressor:
            filters.append(_compressor(options))
        if filters:
            self._stages.append(FilterChain(filters, rate_hz))

    def process(self, samples: Pcm16) -> Pcm16:
        """int16 `(n,)` to int16 `(n,)`."""
        if not self._options.any or not len(samples):
            return samples
        starts = range(0, len(samples), MAX_BLOCK_SAMPLES)
        return np.concatenate([self._block(samples[start : start + MAX_BLOCK_SAMPLES]) for start in starts])

    def _block(self, samples: Pcm16) -> Pcm16:
        signal: Signal = samples / FULL_SCALE
        for stage in self._stages:
            signal = stage.process(signal)
        return to_pcm16(limit(signal) if self._options.limiter else signal)


def normalise_peak(samples: Pcm16, target_dbfs: float = -1.0, max_gain_db: float = 40.0) -> Pcm16:
    """A whole recording scaled so that its largest sample stands at `target_dbfs`; silence stays silence.

    `max_gain_db` keeps a recording of nothing but hiss from becoming a loud one. Raises `ValueError` for a
    target over full scale.
    """
    return amplify(samples, peak_gain(peak_of(samples), target_dbfs, max_gain_db))


def peak_of(samples: Pcm16) -> int:
    """The largest magnitude, 0 to 32768."""
    return max(int(samples.max()), -int(samples.min())) if len(samples) else 0


def peak_gain(peak: int, target_dbfs: float = -1.0, max_gain_db: float = 40.0) -> float:
    """What a recording with this peak is multiplied by; 1 for silence. As `normalise_peak`, for parts of one
    whose peak is known."""
    _require("target_dbfs", target_dbfs, -60, 0)
    _require("max_gain_db", max_gain_db, 0, 90)
    if peak == 0:
        return 1.0
    return float(min(from_db(target_dbfs) / (peak / FULL_SCALE), from_db(max_gain_db)))


def amplify(samples: Pcm16, gain: float) -> Pcm16:
    """What is over full scale is clipped."""
    return samples if gain == 1.0 else to_pcm16(samples / FULL_SCALE * gain)


def to_pcm16(signal: Signal) -> Pcm16:
    """float64 in [-1, 1] to int16; what is over is clipped."""
    scaled: Signal = np.rint(signal * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled).astype(np.int16)


def _filters(options: ConditioningOptions) -> list[FilterSpec]:
    """What stands before the automatic gain, or in its place."""
    filters: list[FilterSpec] = []
    if options.dc_removal:
        filters.append(dc_removal())
    if options.high_pass:
        filters += high_pass(options.high_pass_hz, options.high_pass_order)
    if options.gain_db != 0:
        filters.append(fixed_gain(options.gain_db))
    return filters


def _compressor(options: ConditioningOptions) -> FilterSpec:
    return compressor(
        options.compressor_threshold_dbfs,
        options.compressor_ratio,
        options.compressor_attack_ms,
        options.compressor_release_ms,
        options.compressor_makeup_db,
    )


def _require(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: expected {least} to {most}, got {value}")
