"""Stretches of speech to embeddings: Kaldi's log-mel frames, then CAM++."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchaudio.compliance import kaldi  # type: ignore[import-untyped, unused-ignore]

from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.speakers.models.campplus import NUM_DIMENSIONS, NUM_MELS, load_campplus, traced_frames

FEATURE_STEP_S = 0.01
_FEATURE_SAMPLES = 400
"""25 ms: shorter audio has no frame."""
_MIN_FRAMES = 20
"""Fewer are repeated: the network's statistics need some, and 3D-Speaker trained it on seconds."""
_NETWORK_STEP = 2
"""Frames of the input to one of the network."""

Audio = npt.NDArray[np.float32]
Embeddings = npt.NDArray[np.float32]


class SpeakerEncoder:
    """CAM++ on one device. Blocking; one call at a time. Raises `ModelUnavailable` for a file not its own."""

    num_dimensions = NUM_DIMENSIONS

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self._device = torch.device(device)
        network = load_campplus(path)
        self._frames = traced_frames(network, self._device)
        self._pool = network.pool

    def embed(self, audio: Audio) -> Embeddings:
        """An embedding `(NUM_DIMENSIONS,)` of length 1 of float32 `(num_samples,)` audio at 16 kHz; zeros for
        audio under 25 ms."""
        embedding: Embeddings = self.embed_features([self.features(audio)])[0]
        return embedding

    def features(self, audio: Audio) -> Tensor:
        """Of float32 `(num_samples,)` audio at 16 kHz: log-mel frames float32 `(num_frames, NUM_MELS)`, 10 ms
        apart, not centred; none for audio under 25 ms."""
        if len(audio) < _FEATURE_SAMPLES:
            return torch.zeros(0, NUM_MELS)
        features: Tensor = kaldi.fbank(
            torch.from_numpy(np.array(audio, np.float32))[None],
            num_mel_bins=NUM_MELS,
            sample_frequency=SAMPLE_RATE_HZ,
            dither=0.0,
        )
        return features

    def embed_voices(self, features: Tensor, activity: npt.NDArray[np.uint8]) -> Embeddings:
        """As `embed_features`, of each voice's frames: `activity` `(num_frames, num_voices)` says over the
        same time when it speaks. Zeros for a voice that never does."""
        masks = feature_frames(activity, len(features))
        return self.embed_features([features[torch.from_numpy(mask)] for mask in masks.T])

    def embed_features(self, stretches: Sequence[Tensor]) -> Embeddings:
        """An embedding of length 1 for each stretch of frames that `features` gave, perhaps with gaps between
        them: `(num_stretches, NUM_DIMENSIONS)`, zeros for one without a frame."""
        embeddings = np.zeros((len(stretches), NUM_DIMENSIONS), np.float32)
        for row, features in enumerate(stretches):
            if len(features):
                embeddings[row] = self.embed_parts(features, ())[0]
        return embeddings

    def embed_parts(self, features: Tensor, parts: Sequence[tuple[int, int]]) -> Embeddings:
        """One stretch's embedding, then those of `parts` of it (first frame, end), in one pass of the
        network: `(1 + len(parts), NUM_DIMENSIONS)`. A part has at least four frames; what surrounds it
        colours its embedding a little."""
        with torch.inference_mode():
            if len(features) < _MIN_FRAMES:
                features = features.repeat(-(-_MIN_FRAMES // len(features)), 1)
            centred = (features - features.mean(0)).to(self._device)
            frames = self._frames(centred[None])
            spans = [(0, frames.shape[2])] + [
                (first // _NETWORK_STEP, end // _NETWORK_STEP) for first, end in parts
            ]
            pooled = torch.cat([self._pool(frames[:, :, first:end]) for first, end in spans]).float().cpu()
            unit: Embeddings = (pooled / pooled.norm(dim=1, keepdim=True).clamp_min(1e-12)).numpy()
        return unit


def feature_frames(activity: npt.NDArray[np.uint8], num_features: int) -> npt.NDArray[np.bool_]:
    """Activity `(num_frames, num_voices)` at the rate of the features `(num_features, num_voices)`, by the
    nearest frame."""
    nearest = np.arange(num_features) * len(activity) // max(num_features, 1)
    return activity[nearest] > 0
