"""Sessions of real speech that name no language: nothing is lost by it, and no interim speaks another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scoring import word_errors
from fakes.heard_session import Decode, HeardSession
from fakes.transcribers import on_ctranslate2
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.asr.windows import WindowPolicy
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.audio.recordings import decode_recording
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import DecodeJob, DecodeResult, Role
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.models import resolve_model
from serve_app.session.options import SessionOptions
from serve_app.vad.detector import VoiceDetector

pytestmark = pytest.mark.models

CHECKOUT = Path(__file__).resolve().parents[2]
SPOKEN = CHECKOUT / "audio" / "spoken"
SHARED = CHECKOUT.parent / "shared" / "audio"
SENTENCE = "two weeks and it gets worse at night"


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return load_detector("silero")


@pytest.fixture(scope="module")
def decode(detector: VoiceDetector) -> Decode:
    """As the service does: interims by `tiny.en` once English is known, everything else by `base`."""
    base, tiny = _transcriber("base", detector), _transcriber("tiny.en", detector)

    def decoded(job: DecodeJob) -> DecodeResult:
        model = tiny if job.role is Role.INTERIM and job.language == "en" else base
        return model.transcribe([job])[0]

    return decoded


def _transcriber(name: str, detector: VoiceDetector) -> WhisperTranscriber:
    try:
        folder = resolve_model(name, offline=True).path
    except ModelUnavailable as error:
        pytest.skip(f"{name} is not installed: {error}")
    guards = GuardOptions(ask_voice=lambda audio: voice_of(audio, detector))
    windows = {Role.INTERIM: WindowPolicy(tail_s=5.0), Role.FINAL: WindowPolicy(pad_s=1.5, tail_s=30.0)}
    return on_ctranslate2(name, folder, TranscriberOptions(windows=windows, guards=guards), threads=2)


@lru_cache
def _texts(folder: Path) -> dict[str, str]:
    known = json.loads((folder / "MANIFEST.json").read_text(encoding="utf-8"))
    entries = known["audio"] if isinstance(known, dict) else known
    return {entry["file"]: entry["text"] for entry in entries if entry.get("text")}


def _audio(path: Path) -> Pcm16:
    closing = np.zeros(SAMPLE_RATE_HZ, np.int16)
    return np.concatenate([decode_recording(path.read_bytes()).samples, closing])


@pytest.fixture
def heard(decode: Decode, detector: VoiceDetector) -> Callable[..., HeardSession]:
    def hear(audio: Pcm16, language: str | None = None) -> HeardSession:
        session = HeardSession(SessionOptions("s", language=language), decode, detector)
        session.hear(audio)
        return session

    return hear


def _check(audio: Pcm16, text: str, language: str, heard: Callable[..., HeardSession]) -> HeardSession:
    session, given = heard(audio), heard(audio, language)
    assert {p.utterance_id for p in session.partials} <= {f.utterance_id for f in session.finals}
    assert [f.utterance_id for f in session.finals] == [f.utterance_id for f in given.finals]
    assert {partial.language for partial in session.partials} <= {language}
    assert {final.language for final in session.finals} == {language}
    mistakes = [
        word_errors([text], [" ".join(final.text for final in one.finals)], language)
        for one in (session, given)
    ]
    assert mistakes[0].rate <= mistakes[1].rate + 0.01
    return session


FIRST_S = 20
"""Of longer recordings: held against what a session that names the language hears in it."""


@pytest.mark.parametrize("name", ["visit", "ward_round", "phone_call", *(f"short_{n}" for n in range(6))])
def test_english_dialogues(name: str, heard: Callable[..., HeardSession]) -> None:
    session = _check(_audio(SPOKEN / f"{name}.flac"), _texts(SPOKEN)[f"{name}.flac"], "en", heard)
    if name == "visit":
        assert any(SENTENCE in final.text for final in session.finals)


@pytest.mark.parametrize(
    ("file", "language"),
    [
        ("de_kerstin/de_rhasspy-0199.flac", "de"),
        ("de_kerstin/de_rhasspy-0295.flac", "de"),
        ("multilingual_long/aeneas_es.mp3", "es"),
    ],
)
def test_other_languages(file: str, language: str, heard: Callable[..., HeardSession]) -> None:
    if not (SHARED / file).is_file():
        pytest.skip(f"no {file}: ../shared/audio is not there")
    audio = _audio(SHARED / file)[: FIRST_S * SAMPLE_RATE_HZ]
    text = " ".join(final.text for final in heard(audio, language).finals)
    _check(audio, text, language, heard)


def test_a_sentence_by_itself(decode: Decode) -> None:
    """Taken for Japanese by the likeliest language alone, and then dropped as unintelligible."""
    visit = _audio(SPOKEN / "visit.flac")
    sentence = visit[round(4.18 * SAMPLE_RATE_HZ) : round(7.93 * SAMPLE_RATE_HZ)]
    result = decode(DecodeJob(1, Role.RECORDING, sentence))
    assert SENTENCE in result.text
    assert result.language == "en"
    assert not result.doubted
