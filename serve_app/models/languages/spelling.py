"""From what a client wrote to Whisper's code: "pt", "pt-BR", "por", "Portuguese", "Português"."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator

from serve_app.errors import UnsupportedLanguage
from serve_app.models.languages.table import ROWS, Language

LANGUAGES: dict[str, str] = {row.code: row.name for row in ROWS}
"""Whisper's code to its English name, in the order of Whisper's tokens."""

NATIVE_NAMES: dict[str, str] = {row.code: row.native_names[0] for row in ROWS}
"""Whisper's code to the name that its speakers give it."""

MAX_NAME_CHARS = 80
_DETECT = frozenset({"", "auto", "detect", "multi", "und"})
_TAG = re.compile(r"([a-z]{2,3})(-[a-z0-9]{1,8}){1,7}")
"""BCP 47: a primary language, then script, region and variants (pt-BR, zh-Hant-TW)."""

_QUALIFIED = re.compile(r"([^()]+?) ?\([^()]*\)")
_APOSTROPHES = str.maketrans(dict.fromkeys("ʻʼ‘’`´", "'"))


def normalise_language(name: str | None) -> str | None:
    """Whisper's code for "pt", "pt-BR", "PT", "por", "Portuguese" or "Português"; None for "auto" and
    nothing: detect.

    Raises `UnsupportedLanguage`, which names what was nearest.
    """
    written = name or ""
    if len(written) <= MAX_NAME_CHARS:
        spelling = _canonical(written).replace("_", "-")
        if spelling in _DETECT:
            return None
        code = _find(spelling)
        if code is not None:
            return code
    raise UnsupportedLanguage(_refusal(written))


def normalise_languages(names: str | Iterable[str]) -> tuple[str, ...]:
    """The codes of several languages, "en,de" or a list; each once, none where one of them is "auto".

    Raises `UnsupportedLanguage`, which names what was nearest.
    """
    listed = names.split(",") if isinstance(names, str) else list(names)
    codes = [normalise_language(name) for name in listed if name.strip()]
    return () if None in codes else tuple(dict.fromkeys(code for code in codes if code is not None))


def codes_of(num_languages: int) -> tuple[str, ...]:
    """The codes of a model that has this many languages: 1 (English only), 99, or 100 with Cantonese."""
    return tuple(LANGUAGES)[:num_languages]


def _find(spelling: str) -> str | None:
    spaced = " ".join(spelling.replace("-", " ").split())
    code = _CODES.get(spelling) or _CODES.get(spaced)
    if code is None and (tag := _TAG.fullmatch(spelling)) is not None:
        return _CODES.get("-".join(spelling.split("-")[:2])) or _CODES.get(tag[1])
    if code is None and (qualified := _QUALIFIED.fullmatch(spelling)) is not None:
        return _CODES.get(qualified[1])
    return code


def _canonical(text: str) -> str:
    """One form of what reads the same: case, composed letters, apostrophes, blanks."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(folded.translate(_APOSTROPHES).split())


def _plain(text: str) -> str:
    """Without accents, where that leaves plain letters: "portugues", "francais"; else as it was."""
    letters = unicodedata.normalize("NFKD", text)
    stripped = "".join(letter for letter in letters if not unicodedata.combining(letter)).replace("'", "")
    return stripped if stripped.isascii() else text


def spellings_of(row: Language) -> Iterator[str]:
    """Every spelling that means this language, canonical; doubles among them."""
    for spelling in (row.code, row.name, *row.native_names, *row.others):
        yield _canonical(spelling)
        yield _plain(_canonical(spelling))


_CODES: dict[str, str] = {spelling: row.code for row in ROWS for spelling in spellings_of(row)}


def _refusal(written: str) -> str:
    nearest = difflib.get_close_matches(_canonical(written[:MAX_NAME_CHARS])[:40], _CODES, n=3, cutoff=0.75)
    codes = dict.fromkeys(_CODES[spelling] for spelling in nearest)
    guesses = " or ".join(f"{LANGUAGES[code]} ({code})" for code in list(codes)[:2])
    return (
        f"unknown language {repr(written[:40])[:60]}: "
        + (f"did you mean {guesses}? " if guesses else "")
        + "Expected 'auto', a code such as 'pt' or 'pt-BR', or a name such as 'Portuguese'"
    )
