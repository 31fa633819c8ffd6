"""A minute in which nobody speaks, through a whole session with real models: no final may have text, unless a
voice is heard in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fakes import sounds
from fakes.heard_session import HeardSession
from fakes.transcribers import on_ctranslate2
from serve_app.asr.confidence import MAX_DOUBTED
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.core.errors import ModelUnavailable
from serve_app.core.events import Final
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.models import resolve_model
from serve_app.session.options import SessionOptions
from serve_app.vad.detector import VoiceDetector
from serve_app.vad.options import EndpointingOptions

pytestmark = pytest.mark.models

SPOKEN = Path(__file__).resolve().parents[2] / "audio" / "spoken"
MINUTE_S = 60.0


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    return load_detector("silero")


@pytest.fixture(scope="module")
def voices() -> list[Pcm16]:
    recordings = json.loads((SPOKEN / "MANIFEST.json").read_text(encoding="utf-8"))
    return [soundfile.read(SPOKEN / recording["file"], dtype="int16")[0] for recording in recordings]


def _transcriber(detector: VoiceDetector, *, guarded: bool) -> WhisperTranscriber:
    try:
        folder = resolve_model("tiny.en", offline=True).path
    except ModelUnavailable as error:
        pytest.skip(f"tiny.en is not installed: {error}")
    guards = GuardOptions(enabled=guarded, ask_voice=lambda audio: voice_of(audio, detector))
    return on_ctranslate2("tiny.en", folder, TranscriberOptions(guards=guards), threads=2)


def finals_of(
    audio: Pcm16,
    transcriber: WhisperTranscriber,
    detector: VoiceDetector,
    *,
    vad_enabled: bool,
    withhold: bool = False,
) -> list[Final]:
    """The finals of a session, speculative ones as the session makes them."""
    options = SessionOptions(
        "s",
        language="en",
        partials=False,
        withhold_doubted=withhold,
        endpointing=EndpointingOptions(enabled=vad_enabled),
    )
    session = HeardSession(options, lambda job: transcriber.transcribe([job])[0], detector)
    session.hear(audio)
    return session.finals


MAKERS: dict[str, Callable[[list[Pcm16]], Pcm16]] = {
    "silence": lambda voices: np.zeros(round(MINUTE_S * SAMPLE_RATE_HZ), np.int16),
    "white noise": lambda voices: sounds.noise(MINUTE_S, -30.0, seed=5),
    "pink noise": lambda voices: sounds.noise(MINUTE_S, -30.0, slope=1.0, seed=5),
    "chords": lambda voices: sounds.chords(MINUTE_S, seed=5),
    "drums": lambda voices: sounds.drums(MINUTE_S, seed=5),
    "babble": lambda voices: sounds.babble(voices, MINUTE_S, num_voices=8, seed=5),
}


@pytest.mark.parametrize(
    ("sound", "vad_enabled"),
    [(sound, on) for sound in MAKERS for on in (True, False) if (sound, on) != ("babble", True)],
)
def test_a_minute_without_a_word_has_no_text(
    sound: str, vad_enabled: bool, detector: VoiceDetector, voices: list[Pcm16]
) -> None:
    audio = MAKERS[sound](voices)
    guarded = _transcriber(detector, guarded=True)
    assert finals_of(audio, guarded, detector, vad_enabled=vad_enabled) == []


def test_what_is_heard_in_many_voices_at_once_is_doubted_or_withheld(
    detector: VoiceDetector, voices: list[Pcm16]
) -> None:
    audio, guarded = MAKERS["babble"](voices), _transcriber(detector, guarded=True)
    doubted = finals_of(audio, guarded, detector, vad_enabled=True)
    assert doubted
    assert all(final.text and final.doubted and final.confidence <= MAX_DOUBTED for final in doubted)
    withheld = finals_of(audio, guarded, detector, vad_enabled=True, withhold=True)
    assert [final.withheld for final in withheld] == [final.doubted for final in doubted]
    assert not any(final.text for final in withheld)


def test_without_the_guards_there_is_text(detector: VoiceDetector, voices: list[Pcm16]) -> None:
    bare = _transcriber(detector, guarded=False)
    for sound in ("chords", "drums", "babble"):
        assert finals_of(MAKERS[sound](voices), bare, detector, vad_enabled=False), sound


def test_speech_between_two_noises_is_kept(detector: VoiceDetector, voices: list[Pcm16]) -> None:
    speech = soundfile.read(SPOKEN / "short_0.flac", dtype="int16")[0]
    noise = sounds.noise(8.0, -45.0, slope=1.0, seed=6)
    audio = np.concatenate([noise, speech, noise])
    (final,) = finals_of(audio, _transcriber(detector, guarded=True), detector, vad_enabled=True)
    assert "pharmacy" in final.text
