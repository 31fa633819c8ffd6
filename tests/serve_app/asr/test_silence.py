"""What counts as silence."""

from __future__ import annotations

import numpy as np
import pytest

from serve_app.asr.heard import is_silent


@pytest.mark.parametrize("num_samples", [0, 1, 319, 320, 16_000])
def test_nothing_and_dither_are_silent(num_samples: int) -> None:
    assert is_silent(np.zeros(num_samples, dtype=np.int16))
    assert is_silent(np.random.default_rng(0).integers(-2, 3, num_samples).astype(np.int16))


@pytest.mark.parametrize("where", [0, 8_000, 15_999 - 320, 16_000 - 100])
def test_a_short_sound_anywhere_is_not_silent(where: int) -> None:
    audio = np.zeros(16_000, dtype=np.int16)
    audio[where : where + 320] = -300
    assert not is_silent(audio)


def test_the_loudest_samples_do_not_overflow() -> None:
    assert not is_silent(np.full(3_200, -32_768, dtype=np.int16))
