"""Which names of models a client may ask for: those hosted here, and OpenAI's own for the same work.

Recordings and finished utterances are decoded by the models of the role `final`; each answers to its short
name and to the hub ids of the same weights. OpenAI's names mean the first of them, so that clients work with
only their base URL changed. Any other name is refused: a client gets the model it asked for, or none.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import ModelInfo, Role
from serve_app.models.registry import find_spec, known_names
from serve_app.protocols.openai.errors import ModelNotFound
from serve_app.protocols.openai.records import Model, ModelList

OPENAI_NAMES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe-diarize",
    "gpt-4o-transcribe-latest",
    "gpt-realtime-whisper",
)
"""Transcription models of OpenAI; all mean the model that is loaded here."""

MAX_NAME_CHARS = 128


def hosted_model(name: str, models: Sequence[ModelInfo], *, param: str = "model") -> ModelInfo:
    """The model that decodes for `name`. Raises `ModelNotFound`, `ModelUnavailable` while none is loaded."""
    finals = [model for model in models if model.role == Role.FINAL.value]
    if not finals:
        raise ModelUnavailable("no model is loaded yet")
    if name.lower() in OPENAI_NAMES:
        return finals[0]
    wanted = find_spec(name[:MAX_NAME_CHARS])
    for model in finals:
        if name == model.name or (wanted is not None and wanted is find_spec(model.name)):
            return model
    here = ", ".join(dict.fromkeys(model.name for model in finals))
    raise ModelNotFound(
        f"The model {name[:MAX_NAME_CHARS]!r} does not exist here (hosted: {here})", param=param
    )


def model_list(models: Sequence[ModelInfo], created_s: int) -> ModelList:
    """The body of `GET /v1/models`: models hosted, their hub ids, OpenAI's names; `root` is what decodes."""
    finals = {model.name: model for model in models if model.role == Role.FINAL.value}
    entries = [model_entry(name, name, created_s) for name in finals]
    for name in finals:
        spec = find_spec(name)
        others = known_names(spec) if spec is not None else ()
        entries += [model_entry(other, name, created_s) for other in others if other not in finals]
    if finals:
        entries += [model_entry(name, next(iter(finals)), created_s) for name in OPENAI_NAMES]
    return ModelList(data=entries)


def model_entry(name: str, root: str, created_s: int) -> Model:
    """One model; `created_s`, Unix seconds, is when this server began to host it."""
    return Model(id=name, created=created_s, root=root)
