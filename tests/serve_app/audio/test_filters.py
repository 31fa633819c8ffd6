"""The filters of libavfilter, at full precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from serve_app.audio.filters import FilterChain, FilterSpec, compressor, dc_removal, fixed_gain, high_pass

EACH: list[list[FilterSpec]] = [
    [dc_removal()],
    [*high_pass(80.0, 2)],
    [*high_pass(80.0, 4)],
    [fixed_gain(12.0)],
    [compressor(-20.0, 2.0, 5.0, 100.0, 6.0)],
]


@pytest.mark.parametrize("filters", [*EACH, [*itertools.chain(*EACH)]])
@pytest.mark.parametrize("max_chunk", [1, 2, 10, 333, 5_000])
def test_the_cutting_into_chunks_changes_no_bit(filters: list[FilterSpec], max_chunk: int) -> None:
    generator = np.random.default_rng(max_chunk)
    samples = generator.normal(0, 0.2, 8_000)
    whole = FilterChain(filters, 16_000).process(samples)
    assert whole.shape == samples.shape
    edges = [0, *np.cumsum(generator.integers(1, max_chunk + 1, 8_000 // max_chunk)).clip(max=8_000), 8_000]
    chain = FilterChain(filters, 16_000)
    pieces = [chain.process(samples[a:b]) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
