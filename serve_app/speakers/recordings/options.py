"""Which models hear recordings, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass

BUILT_IN = "pyannote/speaker-diarization"
"""As a pipeline's name: segmentation-3.0 and CAM++, which need no account."""


@dataclass(frozen=True, slots=True)
class SpeakerModels:
    """`pipeline` is `BUILT_IN`, a hub id of pyannote's, or a folder with a `config.yaml`; `offline` forbids
    the hub; `device` is "cpu" or "cuda"; `num_threads` of the CPU, 0: as torch chooses."""

    pipeline: str = BUILT_IN
    hf_token: str | None = None
    offline: bool = False
    device: str = "cpu"
    num_threads: int = 0
