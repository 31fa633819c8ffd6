"""A replica's share of a card, kept to: what is loaded into it, how large batches get, what engines cache.

Ray places replicas by shares and limits no memory. So a recogniser computes what fits, bounds the caches of
CTranslate2 and torch before either is used, and tries its largest batch once it is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from serve_app.asr.config import RecogniserConfig
from serve_app.asr.devices import choose_compute_type, choose_device
from serve_app.asr.engines.ctranslate2_names import count_layers
from serve_app.asr.ports import ModelToLoad
from serve_app.capacity.card_memory import (
    CONTEXT_BYTES,
    MemoryPlan,
    ModelNeed,
    Share,
    plan_memory,
)
from serve_app.capacity.machine import Gpu, read_gpus, visible_gpus
from serve_app.models.footprint import Architecture
from serve_app.models.registry import find_spec
from serve_app.models.tensor_files import model_bin_shapes

CACHE_VARIABLE = "CT2_CUDA_CACHING_ALLOCATOR_CONFIG"
MAX_CACHE_BYTES = 200 * 1024**2
"""CTranslate2's own default, for each worker thread."""
_MIN_CACHE_BYTES = 8 * 1024**2
_CACHE_BINS = "4,3,12"
"""Growth, smallest and largest bin: the defaults, up to blocks of 16 MB. The fourth number is the size."""

_log = structlog.get_logger(__name__)


def own_share(
    device: str, fraction: float | None, read: Callable[[], Sequence[Gpu]] = read_gpus
) -> Share | None:
    """What this process may use of its first visible card; None on a CPU, and where cards cannot be read.

    `fraction` None: the whole card, as without Ray; more than one card counts as one.
    """
    if device not in ("auto", "", "default", "cuda") or choose_device(device) != "cuda":
        return None
    gpus = visible_gpus(read())
    if not gpus:
        _log.warning("the GPU's memory cannot be read, shares are not checked: is nvidia-ml-py installed?")
        return None
    return Share(gpus[0].memory_total_bytes, min(1.0, fraction) if fraction else 1.0)


def kept_to_share(config: RecogniserConfig, share: Share) -> RecogniserConfig:
    """The same with batches that fit, and the engines' caches bounded; to be called before a model is loaded.

    Raises `ModelUnavailable` where the share cannot hold the weights.
    """
    models = {(model.path, config.compute_type_for(model)): model for model in config.models.values()}
    engines = [config.engine_for(model) for model in models.values()]
    needs = [
        _need(config.to_load(model), engine, config.beam_size)
        for model, engine in zip(models.values(), engines, strict=True)
    ]
    limits = config.limits(on_card=True)
    plan = plan_memory(
        share,
        needs,
        num_workers=limits.num_workers,
        max_batch=config.max_batch,
    )
    for warning in plan.warnings:
        _log.warning("GPU memory is tight", detail=warning)
    limit_ctranslate2_caches(plan, num_caches=limits.num_workers * len(models))
    if "torch" in engines:
        limit_torch_memory(share)
    return replace(config, max_batch=plan.max_batch)


def limit_ctranslate2_caches(plan: MemoryPlan, *, num_caches: int) -> None:
    """Let the caching allocator of every worker thread keep no more than its part of what is free.

    It reads its variable when a thread first allocates. The other allocator (cudaMallocAsync, which newer
    cards use) keeps nothing beyond a synchronisation, so there is nothing to bound. What a person set stays.
    """
    each = min(MAX_CACHE_BYTES, max(_MIN_CACHE_BYTES, plan.free_bytes // max(1, num_caches)))
    os.environ.setdefault(CACHE_VARIABLE, f"{_CACHE_BINS},{each}")


def limit_torch_memory(share: Share) -> None:
    """Let torch's allocator fail at the share instead of taking from others; CUDA's context is beside it."""
    import torch

    if torch.cuda.is_available():
        usable = max(0.0, (share.bytes - CONTEXT_BYTES) / share.card_bytes)
        torch.cuda.set_per_process_memory_fraction(usable)


# -- what a model needs ------------------------------------------------------------------------------


def _need(model: ModelToLoad, engine: str, beam_size: int) -> ModelNeed:
    if engine == "torch":
        from serve_app.asr.engines.torch_engine import choose_compute_type as choose_torch_type

        compute_type = choose_torch_type(model.compute_type, "cuda")
    else:
        compute_type = choose_compute_type(model.compute_type, "cuda")
    shape = read_architecture(model.folder) or _known_architecture(model.name)
    if shape is None:
        # Neither a shape nor a name to go by: the files are the weights.
        on_disk = sum(file.stat().st_size for file in model.folder.iterdir() if file.is_file())
        return ModelNeed(model.name, compute_type, on_disk, 0)
    return ModelNeed.of_shape(
        model.name, shape, compute_type, beam_size=beam_size, fused_attention=engine == "torch"
    )


def _known_architecture(name: str) -> Architecture | None:
    spec = find_spec(name)
    return spec.architecture if spec else None


def read_architecture(path: Path) -> Architecture | None:
    """A model's shape from the header of its model.bin; None for other folders, and for files that are not
    understood."""
    try:
        shapes = model_bin_shapes(path / "model.bin")
        if shapes is None:
            return None
        vocabulary_size, width = shapes["decoder/embeddings/weight"]
        _, num_mels, _ = shapes["encoder/conv1/weight"]
        return Architecture(
            width=width,
            num_encoder_layers=count_layers(shapes, r"encoder/layer_(\d+)/"),
            num_decoder_layers=count_layers(shapes, r"decoder/layer_(\d+)/"),
            vocabulary_size=vocabulary_size,
            num_mels=num_mels,
        )
    except (OSError, ValueError, KeyError):
        return None
