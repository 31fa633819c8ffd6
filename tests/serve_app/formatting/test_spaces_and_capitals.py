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


CASING = FormattingOptions(casing=True)


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "hello. how are you? fine! good", "Hello. How are you? Fine! Good"),
        ("en", '"yes," he said. "no," she said', '"Yes," he said. "No," she said'),
        ("en", "i think i'm done and i’ll go. so did i.", "I think I'm done and I’ll go. So did I."),
        ("en", "i.e. that, part ii and i-beams", "i.e. that, part ii and i-beams"),
        ("en", "wait... and then", "Wait... and then"),
        ("en", "ask dr. smith, e.g. today, at 5 p.m. or so", "Ask dr. smith, e.g. today, at 5 p.m. or so"),
        ("en", "by j. smith. he wrote", "By j. smith. He wrote"),
        ("en", "it was 23. he came", "It was 23. He came"),
        ("en", "iPhone sales. iPhone users", "iPhone sales. iPhone users"),
        ("en", "example.com is down", "example.com is down"),
        ("de", "am 21. mai kam er. dann ging er. i", "Am 21. mai kam er. Dann ging er. I"),
        ("fr", "oui. « bon », dit-il", "Oui. « Bon », dit-il"),
        ("es", "¿qué tal? ¡bien!", "¿Qué tal? ¡Bien!"),
        ("nl", "ijs is koud", "IJs is koud"),
        ("tr", "iyi. ılık", "İyi. Ilık"),
        ("de", "ß", "ß"),
        ("ru", "да. нет", "Да. Нет"),
        ("zh", "你好。世界", "你好。世界"),
        ("en", "", ""),
        ("en", "...", "..."),
        ("en", "42 is it. yes", "42 is it. Yes"),
    ],
)
def test_capitals(language: str, text: str, wanted: str) -> None:
    assert format_text(text, language, CASING) == wanted


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "CONCORD RETURNED TO ITS PLACE. I SAW", "Concord returned to its place. I saw"),
        ("en", "NASA AND ESA", "NASA AND ESA"),
        ("en", "The UN, the EU, NATO, the WHO and ESA", "The UN, the EU, NATO, the WHO and ESA"),
        ("tr", "IŞIK İYİ BİR ŞEY OLDU", "Işık iyi bir şey oldu"),
    ],
)
def test_text_that_is_all_capitals(language: str, text: str, wanted: str) -> None:
    assert format_text(text, language, CASING) == wanted


def test_a_sentence_that_began_before() -> None:
    assert format_text("and i went. home", "en", CASING, continues=True) == "and I went. Home"


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("en", "that is all ", "that is all."),
        ("en", "is it?", "is it?"),
        ("en", "it is 5%", "it is 5%."),
        ("en", "", ""),
        ("zh", "你好", "你好。"),
        ("hi", "नमस्त", "नमस्त।"),
        ("th", "สวัสด", "สวัสด"),
    ],
)
def test_the_closing_stop(language: str, text: str, wanted: str) -> None:
    assert format_text(text, language, FormattingOptions(closing_stop=True)) == wanted
