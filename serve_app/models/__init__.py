"""Models by name: which there are, where their files come from, and whether those are whole."""

from serve_app.models.languages import LANGUAGES, normalise_language
from serve_app.models.packages import silero_vad_path, silero_vad_sequence_path
from serve_app.models.places import ModelSource
from serve_app.models.registry import MODELS, ModelSpec, find_spec
from serve_app.models.report import ModelFormat
from serve_app.models.resolve import ResolvedModel, fallback_for, resolve_model, resolve_or_fallback
from serve_app.models.verify import check_folder

__all__ = [
    "LANGUAGES",
    "MODELS",
    "ModelFormat",
    "ModelSource",
    "ModelSpec",
    "ResolvedModel",
    "check_folder",
    "fallback_for",
    "find_spec",
    "normalise_language",
    "resolve_model",
    "resolve_or_fallback",
    "silero_vad_path",
    "silero_vad_sequence_path",
]
