"""Which backend tells speakers apart here: what it is called, whether it can run, and what loads it."""

from __future__ import annotations

import os
from functools import partial

from serve_app.audio.sample import speech_sample
from serve_app.core.installed import load_installed
from serve_app.settings import Settings
from serve_app.speakers.host import SpeakerHost
from serve_app.speakers.models.weights import (
    encoder_path,
    forbid_hub,
    is_installed,
    require_pyannote,
    segmentation_path,
)
from serve_app.speakers.ports import Analyser, Diarizer, DiarizerToLoad, SpeakerStatus, find_diarizer

BUILT_IN = "pyannote/speaker-diarization"
"""As a pipeline's name: segmentation-3.0 and CAM++, which need no account."""


def status_of(settings: Settings) -> SpeakerStatus:
    """What would run with these settings in this environment; imports nothing of it."""
    backend = settings.diarization_backend
    if backend == "channel":
        return SpeakerStatus(
            backend,
            missing="this server tells speakers apart by channel: ask with diarization_backend=channel",
        )
    if backend == "sortformer":
        missing = "" if is_installed("nemo") else MISSING_NEMO
        return SpeakerStatus(backend, ("diar_streaming_sortformer_4spk-v2",), _device(settings), missing)
    if find_diarizer(backend) is not None:
        return SpeakerStatus(backend, (backend,), _device(settings))
    missing = "" if is_installed("pyannote.audio") else MISSING_PYANNOTE
    built_in = settings.pyannote_model == BUILT_IN
    models = ("segmentation-3.0", "CAM++") if built_in else (settings.pyannote_model,)
    return SpeakerStatus(backend, models, _device(settings), missing)


MISSING_PYANNOTE = (
    "telling speakers apart needs pyannote.audio, which is not installed on this server: `make speakers` "
    "installs it, or ask for one speaker a channel with diarization_backend=channel"
)
MISSING_NEMO = (
    "the sortformer backend needs NVIDIA NeMo, which is not installed on this server: "
    "pip install 'nemo_toolkit[asr]'"
)


def load_analyser(settings: Settings) -> Analyser:
    """The analyser of live windows: the built-in models, also where another backend diarizes recordings.
    Blocking for seconds. Raises `ModelUnavailable`."""
    require_pyannote()
    if settings.offline or settings.pyannote_model == BUILT_IN:
        forbid_hub()
    from serve_app.speakers.live.analyser import WindowAnalyser
    from serve_app.speakers.models.encoder import SpeakerEncoder
    from serve_app.speakers.models.segmentation import SpeakerSegmenter

    device = _device(settings)
    _limit_threads(settings, device)
    return WindowAnalyser(
        SpeakerSegmenter(segmentation_path(), device), SpeakerEncoder(encoder_path(), device)
    )


def load_diarizer(settings: Settings) -> Diarizer:
    """What listens to recordings. Blocking for seconds. Raises `ModelUnavailable`, which says what to do."""
    device = _device(settings)
    if settings.diarization_backend == "sortformer":
        from serve_app.speakers.recordings.sortformer import SortformerDiarizer

        return SortformerDiarizer(device=device, offline=settings.offline)
    if (entry := find_diarizer(settings.diarization_backend)) is not None:
        wanted = DiarizerToLoad(device, settings.diarization_threads, settings.offline)
        diarizer: Diarizer = load_installed(entry)(wanted)
        return diarizer
    require_pyannote()
    _limit_threads(settings, device)
    if settings.pyannote_model == BUILT_IN:
        from serve_app.speakers.recordings.built_in import BuiltInDiarizer

        forbid_hub()
        return BuiltInDiarizer(device)
    from serve_app.speakers.recordings.hosted import HostedDiarizer

    return HostedDiarizer(
        settings.pyannote_model,
        hf_token=settings.secret("hf_token"),
        offline=settings.offline,
        device=device,
    )


def _limit_threads(settings: Settings, device: str) -> None:
    """For the thread that loads a model, which is the one that runs it."""
    import torch

    if device == "cpu":
        torch.set_num_threads(settings.diarization_threads)


def _device(settings: Settings) -> str:
    """`auto` is decided by the replica that has a share of a GPU, or none."""
    if settings.diarization_device != "auto":
        return settings.diarization_device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "cpu" if visible in (None, "", "-1") else "cuda"


def speaker_host(settings: Settings) -> SpeakerHost:
    """What a diarization replica runs; the models are loaded when they are first needed, or right away where
    speakers are told apart by default."""
    return SpeakerHost(
        status_of(settings),
        load_live=partial(load_analyser, settings),
        load_recordings=partial(load_diarizer, settings),
        preload=settings.diarization_enabled,
        load_deadline_s=settings.model_load_timeout_s,
        clip=speech_sample(),
    )
