"""Every way to write a language, and those that are none."""

from __future__ import annotations

import json

import pytest

from serve_app.errors import UnsupportedLanguage
from serve_app.models import resolve_model
from serve_app.models.languages import LANGUAGES, codes_of, normalise_language


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
    ],
)
def test_spellings(name: str, code: str) -> None:
    assert normalise_language(name) == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_by_code_name_and_region(code: str) -> None:
    assert normalise_language(code) == code
    assert normalise_language(LANGUAGES[code]) == code
    assert normalise_language(f"{code.upper()}-XX") == code


@pytest.mark.parametrize("name", ["klingon", "xx", "e", "-", "en glish", "pt;rm", "x" * 10_000])
def test_unknown_ones_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedLanguage) as caught:
        normalise_language(name)
    assert len(str(caught.value)) < 250


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
