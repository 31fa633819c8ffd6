from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.formatting import FormattingOptions, format_text

SPACING = FormattingOptions(spacing=True)


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "  hello   there \n now ", "hello there now"),
        ("en", "well , yes ; no : ok .", "well, yes; no: ok."),
        ("en", "really ?! yes ...", "really?! yes..."),
        ("en", 'he said , " stop " .', 'he said, " stop ".'),
        ("en", "one ( or two ) of [ them ]", "one (or two) of [them]"),
        ("en", "yes,no;maybe!perhaps", "yes, no; maybe! perhaps"),
        ("en", "a value of .5 and 1,000 or 3.5", "a value of .5 and 1,000 or 3.5"),
        ("en", "see example.com/a?b=c", "see example.com/a?b=c"),
        ("fr", "vraiment ? oui : « bon » , dit-il .", "vraiment ? oui : « bon », dit-il."),
        ("fr", "vraiment\u00a0? oui", "vraiment\u00a0? oui"),
        ("es", "¿ qué tal ? ¡ bien !", "¿qué tal? ¡bien!"),
        ("zh", "你好 ， 世界 。", "你好， 世界。"),
        ("", "hello , world", "hello, world"),
    ],
)
def test_spaces(language: str, text: str, wanted: str) -> None:
    assert format_text(text, language, SPACING) == wanted


@given(
    st.text(st.sampled_from("ab ,.;!?()¿«»\n\u00a0\"'1"), max_size=40),
    st.sampled_from(["en", "fr", "zh", ""]),
)
def test_done_twice_is_done_once_and_no_letter_is_lost(text: str, language: str) -> None:
    once = format_text(text, language, SPACING)
    assert format_text(once, language, SPACING) == once
    assert "".join(once.split()) == "".join(text.split())
