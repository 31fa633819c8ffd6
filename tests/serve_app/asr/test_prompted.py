"""Which prompted texts are asked about, and which of them stay."""

import pytest

from serve_app.asr.prompted import MAX_ECHO_S, carries, gains_words, may_echo

HOTWORDS = "lights on, lights off, stop music"


@pytest.mark.parametrize(
    ("text", "audio_s", "asked"),
    [
        ("Good morning.", MAX_ECHO_S, True),
        ("", 0.2, True),
        ("Please turn the lights on.", 3.0, False),
        ("Stop music, stop music.", 9.0, True),
        ("", 9.0, False),
    ],
)
def test_texts_of_little_audio_and_of_the_prompts_own_words_are_asked_about(
    text: str, audio_s: float, asked: bool
) -> None:
    assert may_echo(text, HOTWORDS, audio_s) is asked


@pytest.mark.parametrize(
    ("text", "bare", "gains"),
    [
        ("Stop music", "Stop. You sick.", True),
        ("stop", "Stop.", False),
        ("", "Stop.", False),
        ("the music", "you", False),
        ("music music music", "you", False),
        ("lights on, lights off", "Light on, light off.", True),
        ("off sides", "of sides", False),
    ],
)
def test_only_whole_phrases_of_the_prompt_are_gained_and_each_as_often_as_there(
    text: str, bare: str, gains: bool
) -> None:
    assert gains_words(text, bare, HOTWORDS) is gains


def test_phrases_end_at_punctuation_and_words_stand_alone_without_any() -> None:
    sentence = "Then the nurse took the patient to the ward."
    assert not gains_words("The weeks.", "weeks.", sentence)
    assert gains_words("Kubernetes", "Cuba nets", "Sotto, Kubernetes")
    assert gains_words("Kubernetes", "Cuba nets", "Sotto Kubernetes")
    assert not gains_words("Kubernetes", "Cuba nets", "Sotto Kubernetes.")


@pytest.mark.parametrize(
    ("prompted", "bare", "carried"),
    [
        ((0.3, 0.4), (0.5, 0.5), True),
        ((0.5, 0.01), (0.5, 0.5), False),
        ((0.05,), (0.1, 0.1, 0.1), False),
        ((0.3, 0.3, 0.3), (), False),
        ((0.3,), (), True),
        ((0.0,), (0.0,), False),
    ],
)
def test_a_prompted_text_is_carried_where_it_is_about_as_likely_without_the_prompt(
    prompted: tuple[float, ...], bare: tuple[float, ...], carried: bool
) -> None:
    assert carries(prompted, bare) is carried
