"""Who speaks when within ten seconds: pyannote's `segmentation-3.0`, frame by frame, for up to three voices.

The model gives each frame one of seven classes: silence, one of three voices, or two of them (Plaquet and
Bredin 2023, "Powerset multi-class cross entropy loss for neural speaker diarization").
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.speakers.models.weights import quiet_pyannote, require_pyannote
from serve_app.speakers.ports import WINDOW_S, WINDOW_SAMPLES

NUM_VOICES = 3
MAX_AT_ONCE = 2
NUM_FRAMES = 589
"""Of a whole window."""
FRAME_STEP_S = 270 / SAMPLE_RATE_HZ
FRAME_S = 991 / SAMPLE_RATE_HZ
"""What one frame hears; frame i is centred on `i * FRAME_STEP_S + FRAME_S / 2`."""

Activity = npt.NDArray[np.uint8]


class SpeakerSegmenter:
    """The model on one device. Blocking; one call at a time."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.model = load_segmentation(path).to(torch.device(device))
        self._device = torch.device(device)
        self._voices = torch.tensor(_powerset(), dtype=torch.uint8, device=self._device)

    def activities(self, windows: npt.NDArray[np.float32]) -> Activity:
        """Windows float32 `(batch, WINDOW_SAMPLES)` in [-1, 1] to uint8 `(batch, NUM_FRAMES, NUM_VOICES)`, 1
        where a voice speaks; voices are numbered within their window. Raises `ValueError` for other sizes.
        """
        if windows.ndim != 2 or windows.shape[1] != WINDOW_SAMPLES:
            raise ValueError(f"expected windows of {WINDOW_SAMPLES} samples, got an array of {windows.shape}")
        with torch.inference_mode():
            audio = torch.from_numpy(np.ascontiguousarray(windows, np.float32)).to(self._device)
            classes = self.model(audio[:, None]).argmax(2)
            activity: Activity = self._voices[classes].cpu().numpy()
        return activity


def load_segmentation(path: Path) -> Any:
    """pyannote's model (a torch module) out of its checkpoint, without running anything that is in the file.

    Raises `ModelUnavailable` where pyannote.audio is missing or the file is no such checkpoint.
    """
    quiet_pyannote()
    require_pyannote()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyannote.audio.core.task import Problem, Resolution, Specifications
        from pyannote.audio.models.segmentation import PyanNet
        from torch.torch_version import TorchVersion

        try:
            # These classes hold numbers alone; anything else in the file is refused.
            with torch.serialization.safe_globals([Specifications, Problem, Resolution, TorchVersion]):
                checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            model = PyanNet(**checkpoint["hyper_parameters"])
            model.on_load_checkpoint(checkpoint)
            model.load_state_dict(checkpoint["state_dict"], strict=True)
            specifications: Any = model.specifications
            fits = specifications.powerset and len(specifications.classes) == NUM_VOICES
            if not fits or specifications.duration != WINDOW_S:
                raise ValueError("not for three voices in ten seconds")
        except Exception as error:
            raise ModelUnavailable(f"{path.name} is no checkpoint of segmentation-3.0: {error}") from error
    model.eval()
    return model


def _powerset() -> Sequence[Sequence[int]]:
    """Of each class, which voices it says are active, in the order of the model's outputs."""
    sets = [chosen for size in range(MAX_AT_ONCE + 1) for chosen in combinations(range(NUM_VOICES), size)]
    return [[int(voice in chosen) for voice in range(NUM_VOICES)] for chosen in sets]
