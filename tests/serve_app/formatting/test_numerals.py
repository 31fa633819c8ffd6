from __future__ import annotations

import pytest

from serve_app.formatting import FormattingOptions, format_text


def numerals(text: str, language: str = "en", numerals_from: int = 10) -> str:
    return format_text(text, language, FormattingOptions(numerals=True, numerals_from=numerals_from))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("twenty three patients", "23 patients"),
        ("Twenty-three, she said.", "23, she said."),
        ("one hundred and five", "105"),
        ("a hundred and five", "105"),
        ("two point five milligrams", "2.5 milligrams"),
        ("zero point zero five", "0.05"),
        ("five point oh five", "5.05"),
        ("two thousand and twenty four", "2024"),
        ("two hundred thousand", "200000"),
        ("two million people", "2 million people"),
        ("one point two million", "1.2 million"),
        ("ten million two", "10000002"),
        ("thirty one, thirty two", "31, 32"),
    ],
)
def test_numbers(text: str, wanted: str) -> None:
    assert numerals(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("the twenty first of May", "the 21st of May"),
        ("one hundred and first", "101st"),
        ("her fiftieth birthday", "her 50th birthday"),
        ("the first and the fifth", "the first and the fifth"),
        ("a tenth of it, one tenth, two fifths", "a tenth of it, one tenth, two fifths"),
    ],
)
def test_ordinals(text: str, wanted: str) -> None:
    assert numerals(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("in nineteen eighty four we", "in 1984 we"),
        ("nineteen oh five", "1905"),
        ("twenty twenty four", "2024"),
        ("nineteen hundred", "1900"),
        ("the nineteen eighties", "the 1980s"),
        ("the eighties", "the eighties"),
    ],
)
def test_years(text: str, wanted: str) -> None:
    assert numerals(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("call five five five one two now", "call 55512 now"),
        ("five five five double one two", "555112"),
        ("zero zero seven", "007"),
        ("nine one one", "911"),
        ("double five", "double five"),
        ("five five", "five five"),
        ("oh one seven one", "0171"),
        ("Oh one seven one two three.", "017123."),
        ("the number is oh one seven one", "the number is 0171"),
        ("call oh two oh seven nine four six", "call 0207946"),
        ("oh seven double two", "0722"),
        ("extension oh four two", "extension 042"),
        ("double oh seven", "007"),
        ("agent oh oh seven", "agent 007"),
        ("two double oh", "200"),
        ("press one seven oh.", "press 170."),
        ("dial five oh two oh now", "dial 5020 now"),
        ("oh point five milligrams", "0.5 milligrams"),
        ("version two point oh", "version 2.0"),
        ("double two four", "224"),
    ],
)
def test_digits_one_by_one(text: str, wanted: str) -> None:
    assert numerals(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("five percent of them", "5% of them"),
        ("one per cent.", "1%."),
        ("a hundred percent", "100%"),
        ("it cost five dollars", "it cost $5"),
        ("five dollars and fifty cents please", "$5.50 please"),
        ("five dollars five cents", "$5.05"),
        ("twelve euros. Fifty cents", "€12. 50 cents"),
        ("a million dollars", "$1 million"),
        ("one point two million dollars", "$1.2 million"),
        ("two hundred pounds", "200 pounds"),
        ("take five milligrams, twice", "take 5 milligrams, twice"),
        ("minus five degrees", "-5 degrees"),
        ("ten minus five", "10 minus five"),
        ("at three thirty pm", "at 3:30 pm"),
        ("at three o'clock", "at 3 o'clock"),
        ("one twenty over eighty", "120 over 80"),
    ],
)
def test_units(text: str, wanted: str) -> None:
    assert numerals(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "one of them said no one came",
        "I have two dogs and three cats",
        "give me a second",
        "oh seven people came",
        "oh one more thing",
        "oh two things",
        "oh two, three weeks ago",
        "oh one two buckle my shoe",
        "oh oh seven",
        "oh double two",
        "double oh",
        "seven oh",
        "oh no",
        "oh seven one five hundred people",
        "five six oh wait",
        "seven eleven",
        "meet at three thirty",
        "two hundred and five hundred",
        "twenty and five",
        "several hundred people",
        "a hundred people",
        "half a million dollars",
        "version two point five point six",
        "point five",
        "a five-year-old",
        "five. Six people",
        "",
        "!",
    ],
)
def test_what_could_be_read_in_two_ways_stays(text: str) -> None:
    assert numerals(text) == text


def test_from_where_on_numbers_alone_are_digits() -> None:
    assert numerals("four cats, twelve dogs", numerals_from=4) == "4 cats, 12 dogs"
    assert numerals("four cats, twelve dogs", numerals_from=13) == "four cats, twelve dogs"
    assert numerals("one cat and the second dog", numerals_from=1) == "1 cat and the 2nd dog"


@pytest.mark.parametrize(
    ("language", "text", "wanted"),
    [
        ("de", "zwei Komma fünf Prozent von dreiundzwanzig", "2,5 % von 23"),
        ("de", "am einundzwanzigsten Mai ein Hund", "am 21. Mai ein Hund"),
        ("es", "veinte por ciento de treinta y dos", "20 % de 32"),
        ("es", "cien personas y un gato", "cien personas y un gato"),
        ("fr", "cent vingt pour cent, un livre neuf", "120 %, un livre neuf"),
        ("fr", "quatre-vingt-dix-sept", "97"),
        ("pt", "vinte e três por cento", "23%"),
        ("it", "ventitré per cento", "23%"),
        ("nl", "tweeëntwintig procent", "22%"),
        ("da", "tolv procent", "12 %"),
        ("pt-BR", "trinta e dois", "32"),
        ("ru", "двадцать три", "двадцать три"),
        ("", "twenty three", "twenty three"),
    ],
)
def test_other_languages(language: str, text: str, wanted: str) -> None:
    assert numerals(text, language) == wanted


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("null eins sieben eins", "de"),
        ("cero uno siete uno", "es"),
        ("zéro un sept un", "fr"),
        ("zero um sete um", "pt"),
        ("zero uno sette uno", "it"),
        ("nul een zeven een", "nl"),
        ("nul en syv en", "da"),
    ],
)
def test_a_leading_zero_stays_in_every_language(text: str, language: str) -> None:
    assert numerals(text, language) == "0171"


def test_an_interjection_before_digits_keeps_its_comma() -> None:
    assert numerals("Oh, one seven one") == "Oh, 171"
    assert numerals("one two three oh no") == "123 oh no"
