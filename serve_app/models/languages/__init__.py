"""Whisper's languages, and every way in which a client may write one: codes, regions, names."""

from serve_app.models.languages.spelling import (
    LANGUAGES,
    NATIVE_NAMES,
    codes_of,
    normalise_language,
    normalise_languages,
)

__all__ = ["LANGUAGES", "NATIVE_NAMES", "codes_of", "normalise_language", "normalise_languages"]
