"""Real models and real speech for recognition; skipped, with the reason, where they are not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fakes.transcribers import on_ctranslate2
from serve_app.asr.whisper import WhisperTranscriber
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

CHECKOUT = Path(__file__).resolve().parents[3]
SPOKEN = CHECKOUT / "audio" / "spoken"
SHARED_AUDIO = CHECKOUT.parent / "shared" / "audio"


@lru_cache(maxsize=32)
def read_audio(path: Path) -> Pcm16:
    samples: Pcm16
    samples, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == SAMPLE_RATE_HZ
    samples.setflags(write=False)
    return samples


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> WhisperTranscriber:
    return on_ctranslate2("tiny.en", tiny_folder)


@pytest.fixture(scope="session")
def base(base_folder: Path) -> WhisperTranscriber:
    return on_ctranslate2("base", base_folder)


@pytest.fixture(scope="session")
def speech() -> Callable[..., Pcm16]:
    """Audio of a file under audio/spoken, or a stretch of it in seconds."""

    def cut(name: str, start_s: float = 0.0, end_s: float | None = None) -> Pcm16:
        audio = read_audio(SPOKEN / name)
        end = None if end_s is None else round(end_s * SAMPLE_RATE_HZ)
        return audio[round(start_s * SAMPLE_RATE_HZ) : end]

    return cut


@pytest.fixture(scope="session")
def turns() -> list[tuple[Pcm16, str]]:
    """What is said in the spoken dialogues, turn by turn, with its text."""
    cuts = []
    for recording in json.loads((SPOKEN / "MANIFEST.json").read_text(encoding="utf-8")):
        audio = read_audio(SPOKEN / recording["file"])
        for turn in recording["turns"]:
            first = max(0, round((turn["start"] - 0.2) * SAMPLE_RATE_HZ))
            cuts.append((audio[first : round((turn["end"] + 0.2) * SAMPLE_RATE_HZ)], turn["text"]))
    return cuts


@pytest.fixture(scope="session")
def short_turns(turns: list[tuple[Pcm16, str]]) -> list[Pcm16]:
    """Five turns of less than four seconds."""
    return [audio for audio, _ in turns if len(audio) < 4 * SAMPLE_RATE_HZ][:5]


@pytest.fixture(scope="session")
def german_clips() -> list[Pcm16]:
    """A German voice, some seconds a clip."""
    folder = SHARED_AUDIO / "de_kerstin"
    if not folder.is_dir():
        pytest.skip("no German speech: ../shared/audio is not there")
    return [read_audio(path) for path in sorted(folder.glob("*.flac"))]


@pytest.fixture(scope="session")
def german(german_clips: list[Pcm16]) -> Pcm16:
    """The longest of them under 10 s."""
    return max((clip for clip in german_clips if len(clip) < 10 * SAMPLE_RATE_HZ), key=len)


@pytest.fixture
def noise() -> Pcm16:
    return np.random.default_rng(0).normal(0, 1000, 3 * SAMPLE_RATE_HZ).astype(np.int16)
