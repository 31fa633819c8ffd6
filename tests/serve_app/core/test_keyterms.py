"""Words to expect, with their boosts, as clients write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.keyterms import (
    MAX_BOOST,
    MAX_KEYTERM_CHARS,
    MAX_KEYTERMS,
    Keyterm,
    parse_keyterms,
    with_boost,
    without_boosts,
)


@pytest.mark.parametrize(
    ("hotwords", "terms", "bare"),
    [
        ("", [], ""),
        ("Ray,  New\t York ,", [("Ray", 1.0), ("New York", 1.0)], "Ray,  New\t York ,"),
        ("Kube:2, Ray: 0.5", [("Kube", 2.0), ("Ray", 0.5)], "Kube, Ray"),
        ("Kube:99, Kube:2, uh:0", [("Kube", MAX_BOOST)], "Kube, Kube, uh"),
        ("ratio 3:2:1", [("ratio 3:2", 1.0)], "ratio 3:2"),
        (
            "a:b, :2, c:-1, d:1e3",
            [("a:b", 1.0), (":2", 1.0), ("c:-1", 1.0), ("d:1e3", 1.0)],
            "a:b, :2, c:-1, d:1e3",
        ),
        ("x" * (MAX_KEYTERM_CHARS + 1), [], "x" * (MAX_KEYTERM_CHARS + 1)),
    ],
)
def test_terms_are_read(hotwords: str, terms: list[Keyterm], bare: str) -> None:
    assert parse_keyterms(hotwords) == terms
    assert without_boosts(hotwords) == bare


def test_terms_have_their_number() -> None:
    many = ", ".join(f"term{n}" for n in range(MAX_KEYTERMS + 1))
    assert [term.text for term in parse_keyterms(many)] == [f"term{n}" for n in range(MAX_KEYTERMS)]


@given(
    st.text(st.characters(exclude_characters=","), min_size=1, max_size=MAX_KEYTERM_CHARS),
    st.floats(1e-4, MAX_BOOST),
)
def test_a_term_is_read_as_it_was_written(text: str, boost: float) -> None:
    text = " ".join(text.split())
    if text:
        for term in (Keyterm(text, round(boost, 4)), Keyterm(text)):
            assert parse_keyterms(with_boost(term)) == [term]


@given(st.text())
def test_any_text_is_read(hotwords: str) -> None:
    for term in parse_keyterms(hotwords):
        assert 0 < len(term.text) <= MAX_KEYTERM_CHARS
        assert 0 < term.boost <= MAX_BOOST
