"""Log-mel features equal those of faster-whisper on audio padded with silence."""

from __future__ import annotations

import numpy as np
import pytest
from faster_whisper.feature_extractor import FeatureExtractor

from serve_app.asr.features import HOP_SAMPLES, log_mel, mel_filters, num_frames_of


@pytest.mark.parametrize("num_mels", [80, 128])
def test_filters_equal_those_of_faster_whisper(num_mels: int) -> None:
    expected = FeatureExtractor(feature_size=num_mels).mel_filters
    assert np.abs(mel_filters(num_mels) - expected).max() < 1e-6


@pytest.mark.parametrize("num_mels", [80, 128])
@pytest.mark.parametrize(
    ("num_samples", "num_frames"),
    [(0, 100), (1, 2), (50, 100), (159, 100), (16_000, 100), (16_000, 101), (16_001, 102), (48_000, 350)]
    + [(48_000, 3000), (480_000, 3000), (80_000, 100)],
)
def test_features_equal_those_of_faster_whisper(num_mels: int, num_samples: int, num_frames: int) -> None:
    audio = (np.random.default_rng(num_samples).normal(0, 3000, num_samples)).astype(np.int16)
    padded = np.zeros(num_frames * HOP_SAMPLES, dtype=np.float32)
    kept = audio[: len(padded)]
    padded[: len(kept)] = kept / np.float32(32768)
    expected = FeatureExtractor(feature_size=num_mels)(padded, padding=0)

    features = log_mel(audio, num_frames, num_mels)

    assert features.shape == (num_mels, num_frames)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert np.abs(features - expected).max() <= 1e-4


def test_float_and_int16_give_the_same_features() -> None:
    audio = np.random.default_rng(1).normal(0, 3000, 20_000).astype(np.int16)
    as_float = audio.astype(np.float32) / np.float32(32768)
    assert np.abs(log_mel(as_float, 150) - log_mel(audio, 150)).max() < 1e-5


def test_the_last_frame_may_hold_part_of_a_hop() -> None:
    assert [num_frames_of(n) for n in (0, 1, 160, 161, 480_000)] == [0, 1, 1, 2, 3000]
