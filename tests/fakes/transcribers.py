"""Real transcribers for tests: one line from a folder to text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.folder import open_model_folder
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber


def on_ctranslate2(
    name: str, path: Path, options: TranscriberOptions | None = None, **engine: Any
) -> WhisperTranscriber:
    """A model of a CTranslate2 folder on the default engine."""
    folder = open_model_folder(path)
    return WhisperTranscriber(name, CTranslate2Engine(path, **engine), folder, options)
