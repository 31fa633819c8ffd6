"""Every way to write a language, and those that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve_app.core.errors import UnsupportedLanguage
from serve_app.models import resolve_model
from serve_app.models.languages import (
    LANGUAGES,
    MAX_NAME_CHARS,
    ROWS,
    Language,
    codes_of,
    normalise_language,
    spellings_of,
)
from serve_app.models.languages.__main__ import languages_document
from serve_app.models.registry import MODELS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "languages.md"
TWO_LETTER_ONLY = {"haw", "yue"}
"""Their code is the three-letter one."""


@pytest.mark.parametrize("name", [None, "", "  ", "auto", "AUTO", "detect", "multi"])
def test_detect(name: str | None) -> None:
    assert normalise_language(name) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("pt", "pt"),
        ("PT", "pt"),
        ("pt-BR", "pt"),
        ("pt_br", "pt"),
        (" pt-PT ", "pt"),
        ("por", "pt"),
        ("Portuguese", "pt"),
        ("PORTUGUESE", "pt"),
        ("en-US", "en"),
        ("zh-Hant-TW", "zh"),
        ("cmn-Hans-CN", "zh"),
        ("Mandarin", "zh"),
        ("iw", "he"),
        ("jv", "jw"),
        ("nb-NO", "no"),
        ("fil-PH", "tl"),
        ("haitian   creole", "ht"),
        ("haitian-creole", "ht"),
        ("Flemish", "nl"),
        ("deu", "de"),
        ("ger", "de"),
        ("yue-HK", "yue"),
        ("zh-yue", "yue"),
        ("zh-Hant-HK", "zh"),
        ("zh-Hans-CN", "zh"),
        ("castilian", "es"),
        ("Deutsch", "de"),
        ("PORTUGUÊS", "pt"),
        ("Portugue\u0302s", "pt"),
        ("Portugues", "pt"),
        ("francais", "fr"),
        ("日本語", "ja"),
        ("Portuguese (Brazil)", "pt"),
        ("Brazilian Portuguese", "pt"),
        ("O‘zbek", "uz"),
        ("oʻzbek", "uz"),
        ("ozbek", "uz"),
        ("العربية", "ar"),
        ("हिंदी", "hi"),
    ],
)
def test_spellings(name: str, code: str) -> None:
    assert normalise_language(name) == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_by_code_name_and_region(code: str) -> None:
    assert normalise_language(code) == code
    assert normalise_language(LANGUAGES[code]) == code
    assert normalise_language(f"{code.upper()}-XX") == code


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_every_spelling_of_every_language(row: Language) -> None:
    for spelling in (row.code, row.name, *row.native_names, *row.others, *spellings_of(row)):
        for written in (spelling, spelling.upper(), f"  {spelling}\t", spelling.replace(" ", "_")):
            assert normalise_language(written) == row.code, written
    for region in ("BR", "Latn", "Hans-CN", "419"):
        assert normalise_language(f"{row.code}_{region}") == row.code
    assert row.native_names[0] != ""
    codes = [other for other in row.others if len(other) == 3 and other.isalpha()]
    assert codes or row.code in TWO_LETTER_ONLY
    assert len(row.others) == len(set(row.others))


def test_no_spelling_means_two_languages() -> None:
    owners: dict[str, set[str]] = {}
    for row in ROWS:
        for spelling in spellings_of(row):
            owners.setdefault(spelling, set()).add(row.code)
    assert {spelling: codes for spelling, codes in owners.items() if len(codes) > 1} == {}


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("portugese", "Portuguese (pt)"),
        ("Germn", "German (de)"),
        ("englsh", "English (en)"),
        ("Deutsh", "German (de)"),
        ("cantonees", "Cantonese (yue)"),
    ],
)
def test_what_is_near_is_named(name: str, guess: str) -> None:
    with pytest.raises(UnsupportedLanguage) as caught:
        normalise_language(name)
    assert f"did you mean {guess}" in str(caught.value)


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == languages_document(), "run: python -m serve_app.models.languages > docs/languages.md"


def test_the_page_says_which_models_lack_a_language() -> None:
    lines = {line.split("`")[1]: line for line in languages_document().splitlines() if line.startswith("| `")}
    assert set(lines) == set(LANGUAGES)
    with_cantonese = [spec.name for spec in MODELS if spec.num_languages == 100]
    assert with_cantonese == ["large-v3", "large-v3-turbo"]
    assert lines["yue"].endswith("| `large-v3`, `large-v3-turbo` |")
    assert lines["en"].endswith("| all |")
    assert lines["de"].endswith("| all multilingual |")


@pytest.mark.parametrize(
    "name",
    [
        "klingon",
        "xx",
        "xx-BR",
        "e",
        "-",
        "en glish",
        "pt;rm",
        "english-foo",
        "pt-\0",
        "(pt)",
        "ku",
        "x" * 10_000,
        "pt" + " " * MAX_NAME_CHARS,
        "\U000e0001" * 50,
    ],
)
def test_unknown_ones_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedLanguage) as caught:
        normalise_language(name)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


def test_counts() -> None:
    assert len(LANGUAGES) == 100
    assert codes_of(1) == ("en",)
    assert "yue" not in codes_of(99)
    assert codes_of(100)[-1] == "yue"


@pytest.mark.models
def test_order_is_that_of_the_models_tokens() -> None:
    tokenizer = json.loads((resolve_model("base", offline=True).path / "tokenizer.json").read_text())
    tokens = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    first = tokens["<|en|>"]
    for offset, code in enumerate(codes_of(99)):
        assert tokens[f"<|{code}|>"] == first + offset
