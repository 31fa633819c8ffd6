"""Windows of live sessions through the models: who speaks when, and the embedding of each voice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serve_app.core.samples import SAMPLE_RATE_HZ, as_float
from serve_app.speakers.live.stretches import Activity, regroup, stretches_alone
from serve_app.speakers.models.encoder import FEATURE_STEP_S, SpeakerEncoder
from serve_app.speakers.models.segmentation import FRAME_S, FRAME_STEP_S, SpeakerSegmenter
from serve_app.speakers.ports import WINDOW_SAMPLES, SpeakerWindow, WindowVoices

_LEAD_FRAMES = round((FRAME_S - FRAME_STEP_S) / 2 / FRAME_STEP_S)
"""By which the centre of the model's first frame is behind the middle of a window's first `FRAME_STEP_S`."""
_FEATURE_S = 0.025


class WindowAnalyser:
    """Segmentation of all windows at once, then embeddings; nothing is kept. Blocking; one call at a time."""

    def __init__(self, segmenter: SpeakerSegmenter, encoder: SpeakerEncoder) -> None:
        self._segmenter = segmenter
        self._encoder = encoder

    def analyse(self, windows: Sequence[SpeakerWindow]) -> list[WindowVoices]:
        """The voices of each window, in order; of a window, the same in any batch.

        Windows shorter than the model's are filled up with silence behind; `ValueError` for longer ones.
        """
        if not windows:
            return []
        audio = [as_float(window.audio) for window in windows]
        filled = np.zeros((len(windows), WINDOW_SAMPLES), np.float32)
        for row, samples in zip(filled, audio, strict=True):
            if len(samples) > WINDOW_SAMPLES:
                raise ValueError(f"a window has at most {WINDOW_SAMPLES} samples, got {len(samples)}")
            row[: len(samples)] = samples
        activities = self._segmenter.activities(filled)
        return [self._voices(*pair) for pair in zip(audio, activities, strict=True)]

    def _voices(self, audio: npt.NDArray[np.float32], activity: Activity) -> WindowVoices:
        activity = _from_first_sample(activity, len(audio))
        stretches = stretches_alone(activity, FRAME_STEP_S)
        features = self._encoder.features(audio)
        parts = []
        for stretch in stretches:
            first, last = (_feature(frame, len(features)) for frame in (stretch.start, stretch.end))
            parts.append(features[first : last + 1])
        return regroup(activity, FRAME_STEP_S, stretches, self._encoder.embed_features(parts))


def _from_first_sample(activity: Activity, num_samples: int) -> Activity:
    """The model's frames as those of `FRAME_STEP_S` from a window's first sample; as long as its audio."""
    num_frames = int(np.ceil(num_samples / SAMPLE_RATE_HZ / FRAME_STEP_S))
    return activity[np.clip(np.arange(num_frames) - _LEAD_FRAMES, 0, len(activity) - 1)]


def _feature(frame: int, num_features: int) -> int:
    """The feature whose middle is nearest to the start of a frame."""
    nearest = round((frame * FRAME_STEP_S - _FEATURE_S / 2) / FEATURE_STEP_S)
    return min(max(nearest, 0), max(num_features - 1, 0))
