"""pyannote's own pipelines: from a folder that the settings name, or from the hub when it is asked for by
name.

Their checkpoints are pickles, which run code when they are loaded: a folder is trusted because an operator
named it, and its configuration may refer to nothing outside itself.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, as_float
from serve_app.speakers.models.weights import forbid_hub, quiet_pyannote
from serve_app.speakers.recordings.diarizer import RecordingDiarizer, exclusive_turns, turns_of
from serve_app.speakers.turns import SpeakerCounts, Turn

_CONFIG = "config.yaml"
_MODELS = ("segmentation", "embedding", "plda")
_STEPS = {"segmentation": (0.0, 0.45), "embeddings": (0.45, 0.95)}
"""pyannote's names of its slow steps, and their share of the work: from, to."""


class HostedDiarizer(RecordingDiarizer):
    """A pipeline that `pyannote.audio.Pipeline.from_pretrained` knows.

    It keeps a recording as float32 and clusters all embeddings at once: memory grows with the recording, and
    past some hours with its square. Raises `ModelUnavailable`, with the steps to take, where it cannot be
    had.
    """

    def __init__(
        self, pipeline: str, *, hf_token: str | None = None, offline: bool = False, device: str = "cpu"
    ) -> None:
        """`pipeline`: a hub id, or a folder with a `config.yaml`; `offline` forbids the hub."""
        folder = as_folder(pipeline)
        if folder is not None:
            check_folder(folder)
            forbid_hub()
        elif offline:
            raise ModelUnavailable(
                f"{pipeline} is on the hub and this server is offline: download it where there is a "
                "network and set STT_PYANNOTE_MODEL to its folder"
            )
        elif not hf_token:
            raise ModelUnavailable(f"{pipeline} needs a token of the hub. {terms_of_use(pipeline)}")
        self._pipeline = _load(str(folder or pipeline), None if folder else hf_token)
        import torch

        self._pipeline.to(torch.device(device))

    def _turns(
        self,
        audio: Pcm16,
        counts: SpeakerCounts,
        progress: Callable[[float], None],
        pause: Callable[[], None],
    ) -> tuple[list[Turn], list[Turn]]:
        import torch

        def hook(step: str, _: object, *, file: object = None, total: int = 0, completed: int = 0) -> None:
            pause()
            if step in _STEPS and total:
                start, end = _STEPS[step]
                progress(start + (end - start) * min(1.0, completed / total))

        waveform = torch.from_numpy(as_float(audio))[None]
        with warnings.catch_warnings():
            # It warns of counts that it cannot reach; the answer says how many it found.
            warnings.simplefilter("ignore")
            found = self._pipeline(
                {"waveform": waveform, "sample_rate": SAMPLE_RATE_HZ, "uri": "recording"},
                hook=hook,
                num_speakers=counts.exact,
                min_speakers=None if counts.exact else counts.least,
                max_speakers=None if counts.exact else counts.most,
            )
        numbers: dict[str, int] = {}
        turns = turns_of(getattr(found, "speaker_diarization", found), numbers)
        alone = getattr(found, "exclusive_speaker_diarization", None)
        exclusive = exclusive_turns(turns) if alone is None else turns_of(alone, numbers)
        return turns, exclusive


def as_folder(name: str) -> Path | None:
    """The pipeline's folder where `name` is a path; None for a hub id. Raises `ModelUnavailable` for a path
    to nothing."""
    with contextlib.suppress(RuntimeError, OSError, ValueError):
        path = Path(name).expanduser()
        if path.is_dir():
            return path
    if name.startswith(("/", ".", "~")) or name.count("/") != 1:
        raise ModelUnavailable(f"{name} is neither a folder nor the hub id of a pipeline")
    return None


def check_folder(folder: Path) -> None:
    """Raises `ModelUnavailable` unless this is a pipeline whose models all lie in the folder."""
    config = folder / _CONFIG
    try:
        written = yaml.safe_load(config.read_text(encoding="utf-8"))
        params = written["pipeline"]["params"]
        outside = [name for name in _MODELS if not _is_inside(folder, params.get(name))]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailable(f"{config} is no configuration of a pyannote pipeline") from error
    if outside:
        raise ModelUnavailable(
            f"{config}: {', '.join(outside)} must be given as $model/<folder> and lie in {folder}: "
            "checkpoints run code when they are loaded, and come from nowhere else"
        )


def _is_inside(folder: Path, reference: object) -> bool:
    if not isinstance(reference, str) or not reference.startswith("$model/"):
        return False
    path = (folder / reference.removeprefix("$model/")).resolve()
    return path.is_relative_to(folder.resolve()) and path.exists()


def terms_of_use(pipeline: str) -> str:
    """What a person has to do once before the hub hands out a gated pipeline."""
    return (
        f"Sign in at https://huggingface.co/{pipeline}, accept its conditions there (and those of the models "
        "that the page names), make a token with read access at https://hf.co/settings/tokens, and set "
        "HF_TOKEN to it. Without an account, leave STT_PYANNOTE_MODEL as it is: the models that come with "
        "`make speakers` need none."
    )


def _load(source: str, token: str | None) -> Any:
    quiet_pyannote()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from pyannote.audio import Pipeline

            pipeline = Pipeline.from_pretrained(source, token=token)
        except Exception as error:
            raise ModelUnavailable(
                f"{source} cannot be loaded: {_why(error)} {_advice(source, token)}"
            ) from error
    if pipeline is None:
        raise ModelUnavailable(f"{source} cannot be had from the hub. {terms_of_use(source)}")
    return pipeline


def _why(error: BaseException) -> str:
    """One line, of bounded length."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line[:300]}."


def _advice(source: str, token: str | None) -> str:
    return terms_of_use(source) if token else "Is it a folder of a pyannote.audio 4 pipeline?"
