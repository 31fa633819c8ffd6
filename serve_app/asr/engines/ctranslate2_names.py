"""CTranslate2's variables of a Whisper model under Hugging Face's names, fused projections split as views."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import structlog

from serve_app.models.tensor_files import Tensor

_MAX_LAYERS = 256

_LAYER_LINEARS = {
    "self_attention/linear_0": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention/linear_1": ("self_attn.out_proj",),
    "ffn/linear_0": ("fc1",),
    "ffn/linear_1": ("fc2",),
}
"""What a layer's linear maps hold, in the order of their rows."""

_LAYER_NORMS = {"self_attention/layer_norm": "self_attn_layer_norm", "ffn/layer_norm": "final_layer_norm"}
_CROSS_LINEARS = {
    "attention/linear_0": ("encoder_attn.q_proj",),
    "attention/linear_1": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "attention/linear_2": ("encoder_attn.out_proj",),
}
_CROSS_NORMS = {"attention/layer_norm": "encoder_attn_layer_norm"}

_log = structlog.get_logger(__name__)


def hugging_face_names(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float tensors of a model.bin, int8 rows multiplied out. Raises `ValueError` for what is missing or
    stored otherwise."""
    tensors = {"decoder.embed_tokens.weight": _floats(variables, "decoder/embeddings/weight")}
    for name in ("conv1", "conv2"):
        tensors.update(_linear(variables, f"encoder/{name}", (f"encoder.{name}",)))
    for side in ("encoder", "decoder"):
        positions = _floats(variables, f"{side}/position_encodings/encodings")
        tensors[f"{side}.embed_positions.weight"] = positions
        tensors.update(_norm(variables, f"{side}/layer_norm", f"{side}.layer_norm"))
        linears, norms = _LAYER_LINEARS, _LAYER_NORMS
        if side == "decoder":
            linears, norms = linears | _CROSS_LINEARS, norms | _CROSS_NORMS
        for i in range(count_layers(variables, rf"{side}/layer_(\d+)/")):
            source, target = f"{side}/layer_{i}", f"{side}.layers.{i}"
            for name, parts in linears.items():
                targets = tuple(f"{target}.{part}" for part in parts)
                tensors.update(_linear(variables, f"{source}/{name}", targets))
            for name, norm in norms.items():
                tensors.update(_norm(variables, f"{source}/{name}", f"{target}.{norm}"))
    if any(variable.dtype == np.int8 and variable.ndim > 1 for variable in variables.values()):
        _log.warning("weights are stored as int8, what their rounding lost stays lost")
    return tensors


def count_layers(names: Iterable[str], pattern: str) -> int:
    """Layers, from the highest number that `pattern` finds at the start of a name. Raises `ValueError` for
    none or too many."""
    found = (re.match(pattern, name) for name in names)
    num_layers = 1 + max((int(match[1][:4]) for match in found if match), default=-1)
    if not 1 <= num_layers <= _MAX_LAYERS:
        raise ValueError(f"it has {num_layers} layers, expected 1 to {_MAX_LAYERS}")
    return num_layers


def scalar_of(variables: Mapping[str, Tensor], name: str) -> int:
    """A whole number among the variables. Raises `ValueError` where there is none."""
    if name not in variables or variables[name].size != 1 or variables[name].dtype.kind != "i":
        raise ValueError(f"{name} is missing")
    return int(variables[name].reshape(()))


def _linear(
    variables: Mapping[str, Tensor], source: str, targets: tuple[str, ...]
) -> Iterator[tuple[str, Tensor]]:
    weights = _split(_floats(variables, f"{source}/weight"), len(targets))
    biases = _split(_floats(variables, f"{source}/bias"), len(targets))
    for target, weight, bias in zip(targets, weights, biases, strict=True):
        yield f"{target}.weight", weight
        if not target.endswith(".k_proj"):
            yield f"{target}.bias", bias
        elif bias.any():
            # Fused with the others' its bias is stored as zeros.
            raise ValueError(f"{source} has a bias for the keys, Whisper has none")


def _split(fused: Tensor, num_parts: int) -> list[Tensor]:
    if fused.ndim == 0 or len(fused) % num_parts:
        raise ValueError("a fused projection cannot be split")
    return np.split(fused, num_parts)


def _norm(variables: Mapping[str, Tensor], source: str, target: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{target}.weight", _floats(variables, f"{source}/gamma")
    yield f"{target}.bias", _floats(variables, f"{source}/beta")


def _floats(variables: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in variables:
        raise ValueError(f"{name} is missing")
    values = variables[name]
    if values.dtype.kind == "f":
        return values
    scales = variables.get(f"{name}_scale")
    if values.dtype != np.int8 or values.ndim == 0 or scales is None or scales.size != len(values):
        raise ValueError(f"{name} is stored as {values.dtype}, expected float32, float16 or int8 with scales")
    divisors = scales.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    if not np.all(np.isfinite(divisors) & (divisors != 0)):
        raise ValueError(f"{name} has scales that are no numbers")
    floats: Tensor = values.astype(np.float32) / divisors
    return floats
