"""In which language to decode where none is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.asr.language_choice import CandidateText, choose_text, guess_language, known_language
from serve_app.core.jobs import LanguageHint
from serve_app.models.languages import LANGUAGES

KNOWN = tuple(LANGUAGES)


def codes(detected: dict[str, float], hint: LanguageHint | None = None) -> list[str]:
    return [code for code, _ in guess_language(detected, KNOWN, hint).candidates]


def test_a_sure_detection_is_taken_alone() -> None:
    assert codes({"de": 0.97, "en": 0.02}) == ["de"]


def test_a_weak_one_is_decoded_in_two_languages() -> None:
    """As `base` hears an English sentence of 3.7 s."""
    assert set(codes({"ja": 0.65, "en": 0.30, "la": 0.01})) == {"ja", "en"}


def test_a_rare_language_needs_more_than_a_common_one() -> None:
    assert codes({"cy": 0.22, "bo": 0.15, "de": 0.12, "la": 0.12, "en": 0.11}) == ["en", "de"]
    assert codes({"cy": 0.99}) == ["cy"]


def test_one_short_utterance_does_not_overturn_what_was_spoken_before() -> None:
    english = LanguageHint(evidence=(("en", 20.0),))
    detected = {"de": 0.5, "en": 0.3}
    assert codes(detected)[0] == "en"
    assert codes(detected, english) == ["en"]
    german = LanguageHint(evidence=(("de", 20.0),))
    assert codes(detected, german) == ["de"]


def test_who_plainly_changes_the_language_is_heard() -> None:
    english = LanguageHint(evidence=(("en", 3_600.0),))
    assert "de" in codes({"de": 0.98, "en": 0.005}, english)


def test_only_the_languages_of_the_list_come_into_question() -> None:
    among = LanguageHint(among=("de", "pt"))
    assert set(codes({"en": 0.9, "de": 0.05, "pt": 0.04}, among)) == {"de", "pt"}
    assert codes({"en": 0.9, "de": 0.05, "pt": 0.001}, among) == ["de"]
    assert codes({"en": 0.95}, LanguageHint(among=("xx",))) == ["en"]


def test_an_interim_waits_until_its_language_is_known() -> None:
    sure, weak = guess_language({"en": 0.99}, KNOWN), guess_language({"ja": 0.6, "en": 0.4}, KNOWN)
    nothing, english = LanguageHint(), LanguageHint(evidence=(("en", 2.5),))
    assert [sure.for_interim(seconds, nothing) for seconds in (0.5, 1.0)] == [False, True]
    assert sure.for_interim(0.3, english)
    assert known_language("en").for_interim(0.3, nothing)
    assert [weak.for_interim(seconds, nothing) for seconds in (1.0, 2.5, 3.0)] == [False, False, True]


def test_the_likelier_text_decides() -> None:
    japanese, english = CandidateText(0.43, -0.78), CandidateText(0.57 * 0.5, -0.15)
    best, probability = choose_text([japanese, english])
    assert best == 1
    assert probability > 0.9


@pytest.mark.parametrize(
    "worse",
    [
        CandidateText(0.7, -0.2, looped=True),
        CandidateText(0.7, -0.2, doubted=True),
        CandidateText(0.7, 0.0, has_text=False),
        CandidateText(0.7, float("nan")),
    ],
)
def test_a_text_that_is_no_good_is_not_kept(worse: CandidateText) -> None:
    assert choose_text([worse, CandidateText(0.3, -0.4)])[0] == 1


@given(
    st.dictionaries(st.sampled_from(KNOWN), st.floats(0, 1), max_size=20),
    st.lists(st.sampled_from([*KNOWN, "xx"]), max_size=4),
    st.lists(st.tuples(st.sampled_from(KNOWN), st.floats(0, 1e6)), max_size=4),
)
def test_there_is_always_a_language_and_probabilities_are_some(
    detected: dict[str, float], among: list[str], evidence: list[tuple[str, float]]
) -> None:
    guess = guess_language(detected, KNOWN, LanguageHint(tuple(among), tuple(dict(evidence).items())))
    assert 1 <= len(guess.candidates) <= 2
    assert 0 < sum(probability for _, probability in guess.candidates) <= 1 + 1e-9
    if set(among) & set(KNOWN):
        assert {code for code, _ in guess.candidates} <= set(among)
