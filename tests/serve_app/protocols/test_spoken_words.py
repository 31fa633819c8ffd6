import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.protocols.spoken_words import spoken_form


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        (" Olá,", "Olá"),
        (" está?", "está"),
        ("¿Qué", "Qué"),
        (' "hello"', "hello"),
        (" you're", "you're"),
        (" dogs'", "dogs"),
        (" well-known.", "well-known"),
        (" 3.5,", "3.5"),
        (" -5", "-5"),
        (" .5", ".5"),
        (" 50%.", "50%"),
        (" #1", "#1"),
        (" $20", "$20"),
        (" ...", ""),
        (" —", ""),
        ("", ""),
        ("今日は。", "今日は"),
        (" U.S.", "U.S"),
    ],
)
def test_words_as_spoken(written, spoken):
    assert spoken_form(written) == spoken


@given(st.text())
def test_the_spoken_form_is_a_part_of_the_word_and_stable(word):
    spoken = spoken_form(word)
    assert spoken in word
    assert spoken == spoken.strip()
    assert spoken_form(spoken) == spoken
