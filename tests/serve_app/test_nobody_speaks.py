"""A minute in which nobody speaks, through a whole session with real models: no final may have text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fakes import sounds
from fakes.transcribers import on_ctranslate2

from serve_app.asr.guarded import GuardOptions
from serve_app.asr.jobs import SAMPLE_RATE_HZ, DecodeJob, Pcm16, Role, Transcript
from serve_app.asr.voice import voice_of
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.errors import ModelUnavailable
from serve_app.events import Event, Final
from serve_app.models import resolve_model
from serve_app.session.effects import DecodeRequest, Effect
from serve_app.session.options import EndpointingOptions, SessionOptions
from serve_app.session.session import Session
from serve_app.vad.detector import VoiceDetector
from serve_app.vad.loading import load_detector

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
    audio: Pcm16, transcriber: WhisperTranscriber, detector: VoiceDetector, *, vad_enabled: bool
) -> list[str]:
    """The texts of a session's finals, speculative ones as the session makes them."""
    options = SessionOptions(
        "s", language="en", partials=False, endpointing=EndpointingOptions(enabled=vad_enabled)
    )
    session = Session(options)
    events: list[Event] = []

    def apply(effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, DecodeRequest):
                job = DecodeJob(
                    effect.key,
                    Role.FINAL,
                    effect.audio,
                    effect.language,
                    word_timestamps=effect.word_timestamps,
                )
                (result,) = transcriber.transcribe([job])
                assert isinstance(result, Transcript)
                apply(session.on_decoded(effect.key, result, 1.0))
            else:
                events.append(effect)

    def listen() -> None:
        while True:
            effects, request = session.poll_voice()
            apply(effects)
            if request is None:
                return
            apply(session.on_voice(detector.detect([request])[0]))

    for start in range(0, len(audio), SAMPLE_RATE_HZ):
        session.push(audio[start : start + SAMPLE_RATE_HZ])
        listen()
    session.end()
    listen()
    assert session.ended
    return [event.text for event in events if isinstance(event, Final)]


MAKERS: dict[str, Callable[[list[Pcm16]], Pcm16]] = {
    "silence": lambda voices: np.zeros(round(MINUTE_S * SAMPLE_RATE_HZ), np.int16),
    "white noise": lambda voices: sounds.noise(MINUTE_S, -30.0, seed=5),
    "pink noise": lambda voices: sounds.noise(MINUTE_S, -30.0, slope=1.0, seed=5),
    "chords": lambda voices: sounds.chords(MINUTE_S, seed=5),
    "drums": lambda voices: sounds.drums(MINUTE_S, seed=5),
    "babble": lambda voices: sounds.babble(voices, MINUTE_S, num_voices=8, seed=5),
}


@pytest.mark.parametrize("vad_enabled", [True, False])
@pytest.mark.parametrize("sound", MAKERS)
def test_a_minute_without_a_word_has_no_final(
    sound: str, vad_enabled: bool, detector: VoiceDetector, voices: list[Pcm16]
) -> None:
    audio = MAKERS[sound](voices)
    guarded = _transcriber(detector, guarded=True)
    assert finals_of(audio, guarded, detector, vad_enabled=vad_enabled) == []


def test_without_the_guards_there_is_text(detector: VoiceDetector, voices: list[Pcm16]) -> None:
    bare = _transcriber(detector, guarded=False)
    for sound in ("chords", "drums", "babble"):
        assert finals_of(MAKERS[sound](voices), bare, detector, vad_enabled=False), sound


def test_speech_between_two_noises_is_kept(detector: VoiceDetector, voices: list[Pcm16]) -> None:
    speech = soundfile.read(SPOKEN / "short_0.flac", dtype="int16")[0]
    noise = sounds.noise(8.0, -45.0, slope=1.0, seed=6)
    audio = np.concatenate([noise, speech, noise])
    (text,) = finals_of(audio, _transcriber(detector, guarded=True), detector, vad_enabled=True)
    assert "pharmacy" in text
