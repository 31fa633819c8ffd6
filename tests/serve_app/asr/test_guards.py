"""Nobody's words never become text, and what people say does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.text.guards import RawDecoder, guarded
from fakes import sounds
from serve_app.asr.guards import (
    RETRIES,
    DecodeEvidence,
    GuardThresholds,
    Reason,
    Voice,
    best_attempt,
    best_voice,
    has_words,
    is_stale_repeat,
    judge,
    needs_fallback,
)
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.vad.detector import VoiceDetector

GOOD = DecodeEvidence("Please call the pharmacy.", avg_logprob=-0.15, no_speech_prob=0.1, audio_s=3.0)
HUM = DecodeEvidence("you", avg_logprob=-0.85, no_speech_prob=0.91, audio_s=10.0)
BABBLE = DecodeEvidence("I'm not sure what I'm going to do.", -1.6, 0.8, audio_s=12.0)
LOOP = DecodeEvidence("Wait a moment. " * 20, -0.07, 0.77, audio_s=30.0)
ANY = st.floats(allow_nan=True, allow_infinity=True)


def never_asked() -> float:
    raise AssertionError("the audio was asked for a text that is beyond doubt")


# -- judge ---------------------------------------------------------------------------------------


def test_a_sure_text_is_kept_unasked() -> None:
    assert judge(GOOD, never_asked).keep


def test_the_audio_decides_on_a_doubtful_text() -> None:
    doubtful = replace(GOOD, avg_logprob=-0.7, no_speech_prob=0.4)
    assert judge(doubtful, lambda: Voice(0.99)).keep
    assert judge(doubtful, lambda: Voice(0.1)).reason is Reason.NO_SPEECH
    assert judge(doubtful, lambda: Voice(0.1)).voice == Voice(0.1)


def test_text_on_hum_is_dropped_though_whispers_own_rule_lets_it_pass() -> None:
    assert not (HUM.no_speech_prob > 0.6 and HUM.avg_logprob < -1.0)
    assert judge(HUM, lambda: Voice(0.02)).reason is Reason.NO_SPEECH
    assert judge(HUM).reason is Reason.NO_SPEECH


def test_many_voices_at_once_are_unintelligible() -> None:
    assert judge(BABBLE, lambda: Voice(1.0)).reason is Reason.UNINTELLIGIBLE


def test_of_a_lone_word_nobody_can_say_that_it_is_unintelligible() -> None:
    word = DecodeEvidence("Cold.", -1.5, 0.7, audio_s=0.9)
    assert judge(word, lambda: Voice(0.9)).keep
    assert judge(replace(word, audio_s=6.0), lambda: Voice(0.9)).reason is Reason.UNINTELLIGIBLE


def test_a_loop_on_no_speech_is_dropped_however_sure_the_model_is() -> None:
    assert LOOP.doubt < 1.0
    assert judge(LOOP, never_asked).reason is Reason.LOOP
    assert judge(replace(LOOP, text="Wait a moment.", looped=True), never_asked).reason is Reason.LOOP


def test_a_loop_in_speech_is_kept_once_cut_if_the_audio_has_a_voice() -> None:
    cut = replace(LOOP, text="Wait a moment.", no_speech_prob=0.2, looped=True)
    assert judge(cut, lambda: Voice(0.9)).keep
    assert judge(cut, lambda: Voice(0.1)).reason is Reason.NO_SPEECH


@pytest.mark.parametrize("text", [".", ". . . .", "♪♪", "[Music]", "(applause)", "*sighs*", "-"])
def test_what_is_no_word_is_dropped(text: str) -> None:
    assert judge(replace(GOOD, text=text), never_asked).reason is Reason.NO_WORDS


@pytest.mark.parametrize("text", ["7", "Ärzte", "好", "[Music] Hello", "हाँ", "(so) be it"])
def test_what_is_a_word_is_not(text: str) -> None:
    assert has_words(text)
    assert judge(replace(GOOD, text=text), never_asked).keep


def test_no_text_is_no_rejection() -> None:
    assert judge(replace(HUM, text=""), never_asked).keep


@given(ANY, ANY, ANY, ANY, st.text(max_size=40))
def test_any_numbers_give_a_verdict(
    avg_logprob: float, no_speech_prob: float, audio_s: float, voice: float, text: str
) -> None:
    evidence = DecodeEvidence(text, avg_logprob, no_speech_prob, audio_s)
    verdict = judge(evidence, lambda: Voice(voice, voice))
    if has_words(text) and not math.isfinite(avg_logprob):
        assert not verdict.keep or voice >= GuardThresholds().voice
    assert needs_fallback(evidence) in (None, Reason.LOOP, Reason.UNLIKELY)


# -- retries -------------------------------------------------------------------------------------


def test_when_to_try_again() -> None:
    assert needs_fallback(GOOD) is None
    assert needs_fallback(replace(GOOD, avg_logprob=-1.2)) is Reason.UNLIKELY
    assert needs_fallback(replace(HUM, avg_logprob=-1.2)) is None
    assert needs_fallback(replace(GOOD, avg_logprob=math.nan)) is None
    assert needs_fallback(LOOP) is Reason.LOOP
    assert needs_fallback(replace(GOOD, ended=False)) is Reason.LOOP
    unspaced = replace(GOOD, text="谢谢大家" * 10, spaced=False)
    assert needs_fallback(unspaced) is Reason.LOOP


def test_every_reason_to_try_again_has_a_way_to() -> None:
    assert set(RETRIES) == {Reason.LOOP, Reason.UNLIKELY}
    assert all(retry.beam_size == 1 for retries in RETRIES.values() for retry in retries if retry.temperature)


def test_which_attempt_is_taken() -> None:
    unlikely = replace(GOOD, avg_logprob=-1.4)
    less_unlikely = replace(GOOD, avg_logprob=-1.2)
    assert best_attempt([LOOP, unlikely, GOOD]) == 2
    assert best_attempt([LOOP, unlikely, less_unlikely]) == 2
    assert best_attempt([LOOP, replace(LOOP, avg_logprob=-0.5)]) == 0
    assert best_attempt([replace(GOOD, avg_logprob=math.nan), unlikely]) == 1
    with pytest.raises(ValueError, match="no attempts"):
        best_attempt([])


# -- voice ---------------------------------------------------------------------------------------


def test_one_word_in_half_a_minute_is_a_voice() -> None:
    probs = np.zeros(940, np.float32)
    probs[500:508] = 0.9
    assert best_voice(probs) == pytest.approx(0.9, abs=1e-6)
    assert best_voice(probs[:504]) == pytest.approx(0.45, abs=1e-6)


def test_a_click_is_not() -> None:
    probs = np.zeros(200, np.float32)
    probs[100:102] = 1.0
    assert best_voice(probs) == pytest.approx(0.25)


def test_short_audio_is_judged_by_what_there_is() -> None:
    assert best_voice(np.zeros(0, np.float32)) == 0.0
    assert best_voice(np.array([0.5, 1.0], np.float32)) == pytest.approx(0.75)


# -- repeated finals -----------------------------------------------------------------------------

THANKS = DecodeEvidence("Thank you.", avg_logprob=-0.6, no_speech_prob=0.7, audio_s=1.0)


def test_thanks_again_and_again_is_dropped_where_nobody_believes_it() -> None:
    assert judge(THANKS, lambda: Voice(0.5)).keep
    assert not is_stale_repeat(THANKS, [])
    assert not is_stale_repeat(THANKS, [THANKS])
    assert is_stale_repeat(THANKS, [THANKS, replace(THANKS, text="thank you")])


@pytest.mark.parametrize(
    "other",
    [
        replace(THANKS, avg_logprob=-0.2, no_speech_prob=0.1),
        replace(THANKS, avg_logprob=-1.5, no_speech_prob=0.1),
        replace(THANKS, text="No."),
    ],
)
def test_one_believable_or_other_final_keeps_them_all(other: DecodeEvidence) -> None:
    assert not is_stale_repeat(THANKS, [THANKS, other])
    assert not is_stale_repeat(THANKS, [other, THANKS])
    assert not is_stale_repeat(other, [THANKS, THANKS])


def test_people_say_yes_three_times() -> None:
    yes = DecodeEvidence("Yes.", avg_logprob=-0.5, no_speech_prob=0.2, audio_s=0.8)
    assert not is_stale_repeat(yes, [yes] * 8)


# -- with real models ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detector() -> VoiceDetector:
    try:
        return load_detector("silero")
    except ModelUnavailable as error:
        pytest.skip(f"no Silero: {error}")


@pytest.fixture(scope="module")
def raw_tiny(tiny_folder: Path) -> RawDecoder:
    return RawDecoder("tiny.en")


@pytest.fixture(scope="module")
def voices(turns: list[tuple[Pcm16, str]]) -> list[Pcm16]:
    return [audio for audio, _ in turns]


def _text(decoder: RawDecoder, audio: Pcm16, detector: VoiceDetector) -> str:
    _, best, verdict = guarded(decoder, audio, "en", detector)
    return best.text if verdict.keep else ""


def test_few_words_for_much_voice_are_nobodys() -> None:
    """Eight voices at once read as "Please call the police call the party", with a doubt of 0.17."""
    sure = DecodeEvidence("Please call the police call the party. Please", -0.10, 0.07, 26.1)
    assert judge(sure, lambda: Voice(1.0, 24.0)).reason is Reason.UNINTELLIGIBLE
    assert judge(sure, lambda: Voice(1.0, 4.0)).keep
    assert judge(replace(sure, audio_s=6.0), lambda: Voice(1.0, 5.0)).keep
    assert judge(replace(sure, text="one two three " * 10), lambda: Voice(1.0, 24.0)).keep


@pytest.mark.models
def test_tiny_writes_text_on_every_sound_and_the_guards_remove_it(
    raw_tiny: RawDecoder, detector: VoiceDetector, voices: Sequence[Pcm16]
) -> None:
    raw, kept = [], {}
    for name, audio in sounds.sounds(6.0, voices, seed=90):
        raw.append(raw_tiny.decode(audio).text)
        kept[name] = _text(raw_tiny, audio, detector)
    assert sum(map(bool, raw)) > 20
    assert not {name: text for name, text in kept.items() if text}


@pytest.mark.models
def test_a_minute_of_music_and_babble_without_endpointing(
    raw_tiny: RawDecoder, detector: VoiceDetector, voices: Sequence[Pcm16]
) -> None:
    minute = {
        "organ": sounds.chords(60.0, seed=3),
        "drums": sounds.drums(60.0, seed=3),
        "babble": sounds.babble(voices, 60.0, num_voices=8, seed=3),
    }
    window = 30 * SAMPLE_RATE_HZ
    for audio in minute.values():
        parts = [audio[:window], audio[window:]]
        assert any(raw_tiny.decode(part).text for part in parts)
        assert [_text(raw_tiny, part, detector) for part in parts] == ["", ""]


@pytest.mark.models
@pytest.mark.parametrize("gain_db", [0, -20, -30])
def test_no_spoken_turn_is_dropped(
    raw_tiny: RawDecoder, detector: VoiceDetector, turns: list[tuple[Pcm16, str]], gain_db: int
) -> None:
    for audio, said in turns[:: 1 if gain_db == 0 else 3]:
        assert _text(raw_tiny, sounds.louder(audio, gain_db), detector), said


@pytest.mark.models
def test_a_sentence_somewhere_in_half_a_minute_of_room_tone_is_kept(
    raw_tiny: RawDecoder, detector: VoiceDetector, speech: Callable[..., Pcm16]
) -> None:
    room = sounds.room_tone(30.0)
    sentence = speech("short_0.flac")
    room[320_000 : 320_000 + len(sentence)] += sentence
    assert voice_of(room, detector).best > 0.9
    assert "pharmacy" in _text(raw_tiny, room, detector)


@pytest.mark.models
def test_recordings_without_a_word(raw_tiny: RawDecoder, detector: VoiceDetector) -> None:
    """leopard_empty.wav reads "Oh" and "Wooooo!" where nobody looks."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "audio" / "noise"
    if not folder.is_dir():
        pytest.skip("no noise recordings: ../shared/audio is not there")
    from serve_app.audio.recordings import decode_recording

    for path in sorted(folder.iterdir()):
        audio = decode_recording(path).samples[: 30 * SAMPLE_RATE_HZ]
        assert raw_tiny.decode(audio).text, path.name
        assert _text(raw_tiny, audio, detector) == "", path.name
