"""Which device and which arithmetic CTranslate2 is to use here."""

from __future__ import annotations

import ctranslate2
import structlog

from serve_app.asr.engines.base import AUTO
from serve_app.core.errors import ModelUnavailable

_log = structlog.get_logger(__name__)


def choose_device(wanted: str) -> str:
    """Either "cpu" or "cuda"; "auto" means cuda where there is a card.

    Raises `ModelUnavailable` for any other name, and for cuda without a card.
    """
    has_card = ctranslate2.get_cuda_device_count() > 0
    if wanted in AUTO:
        return "cuda" if has_card else "cpu"
    if wanted not in ("cpu", "cuda"):
        raise ModelUnavailable(f"unknown device {wanted!r}, expected auto, cpu or cuda")
    if wanted == "cuda" and not has_card:
        raise ModelUnavailable("device cuda was asked for and no CUDA device can be used")
    return wanted


def choose_compute_type(wanted: str, device: str) -> str:
    """int8 on a CPU and float16 on a card unless asked otherwise; what the device cannot do becomes int8."""
    if wanted in AUTO:
        wanted = "int8" if device == "cpu" else "float16"
    supported = ctranslate2.get_supported_compute_types(device)
    if wanted in supported:
        return wanted
    instead = "int8" if "int8" in supported else "float32"
    _log.warning("compute type is not supported here", wanted=wanted, device=device, instead=instead)
    return instead
