"""libavfilter on a stream of samples, through PyAV: filters that look at nothing but what has come.

The output does not depend, to the last bit, on how the samples were cut into chunks. That rules out the
default form of libavfilter's biquads, which adds in another order at the end of a chunk of odd length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Signal: TypeAlias = npt.NDArray[np.float64]
"""Samples between stages, float64 `(n,)` in [-1, 1], or more before the limiter."""

FilterSpec: TypeAlias = tuple[str, str]
"""A filter of libavfilter and its options, as ffmpeg writes them."""

DC_CORNER_HZ: Final = 5.0

_FORMAT: Final = "dblp"
_EXACT: Final = "precision=f64:transform=tdii"


class FilterChain:
    """One stream through `filters`, none of which may wait for samples to come: as many samples out as in."""

    def __init__(self, filters: Iterable[FilterSpec], rate_hz: int) -> None:
        # Not at the top: the settings import this room's options, and FFmpeg takes 50 ms.
        from av import AudioFrame
        from av.filter import Graph

        self._frame_of = AudioFrame.from_ndarray
        self._rate_hz = rate_hz
        self._graph = Graph()
        # Otherwise every graph, so every session, starts as many threads as there are cores.
        self._graph.threads = 1
        source = self._graph.add_abuffer(sample_rate=rate_hz, format=_FORMAT, layout="mono")
        nodes = [self._graph.add(name, options) for name, options in filters]
        self._graph.link_nodes(source, *nodes, self._graph.add("abuffersink")).configure()

    def process(self, samples: Signal) -> Signal:
        """float64 `(n,)` to as many."""
        if not len(samples):
            return samples
        frame = self._frame_of(samples[np.newaxis], format=_FORMAT, layout="mono")
        frame.sample_rate = self._rate_hz
        self._graph.push(frame)
        filtered: Signal = self._graph.pull().to_ndarray()[0]
        return filtered


def dc_removal() -> FilterSpec:
    """One pole and a zero at 0 Hz, -3 dB at 5 Hz."""
    return "highpass", f"frequency={DC_CORNER_HZ}:poles=1:{_EXACT}"


def high_pass(cutoff_hz: float, order: int) -> Iterator[FilterSpec]:
    """A Butterworth high-pass of an even order as a chain of biquads, -3 dB at `cutoff_hz`."""
    for k in range(order // 2):
        q = 1 / (2 * math.cos(math.pi * (2 * k + 1) / (2 * order)))
        yield "highpass", f"frequency={cutoff_hz}:width_type=q:width={q}:{_EXACT}"


def fixed_gain(gain_db: float) -> FilterSpec:
    """The same gain all along."""
    return "volume", f"{gain_db}dB:precision=double"


def compressor(
    threshold_dbfs: float, ratio: float, attack_ms: float, release_ms: float, makeup_db: float
) -> FilterSpec:
    """What stands over the threshold grows only by 1/ratio, by the level of the peaks; makeup gain behind it.

    Attack and release are time constants of that level. libavfilter's are four of them.
    """
    threshold, makeup = 10 ** (threshold_dbfs / 20), 10 ** (makeup_db / 20)
    times = f"attack={4 * attack_ms}:release={4 * release_ms}"
    level = "detection=peak:knee=1"
    return "acompressor", f"threshold={threshold}:ratio={ratio}:{times}:{level}:makeup={makeup}"
