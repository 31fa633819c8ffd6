"""The words around numbers that change how the numbers are written."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PERCENT: Final[Mapping[str, tuple[tuple[tuple[str, ...], str], ...]]] = MappingProxyType(
    {
        "en": ((("percent",), "%"), (("per", "cent"), "%")),
        "de": ((("prozent",), " %"),),
        "es": ((("por", "ciento"), " %"), (("por", "cien"), " %")),
        "fr": ((("pour", "cent"), " %"), (("pourcent",), " %")),
        "pt": ((("por", "cento"), "%"),),
        "it": ((("per", "cento"), "%"), (("percento",), "%")),
        "nl": ((("procent",), "%"),),
        "da": ((("procent",), " %"),),
    }
)
"""By language: the words, and the sign as it is set there."""

CURRENCIES: Final = MappingProxyType({"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"})
"""English. Pounds are weights too."""

MEASURES: Final = frozenset(
    {"milligram", "milligrams", "mg", "microgram", "micrograms", "gram", "grams", "kilogram", "kilograms"}
    | {
        "kilo",
        "kilos",
        "kg",
        "millilitre",
        "millilitres",
        "milliliter",
        "milliliters",
        "ml",
        "litre",
        "litres",
    }
    | {"liter", "liters", "millimetre", "millimetres", "millimeter", "millimeters", "mm", "centimetre"}
    | {"centimetres", "centimeter", "centimeters", "cm", "kilometre", "kilometres", "kilometer", "kilometers"}
    | {
        "km",
        "degrees",
        "volts",
        "watts",
        "megabytes",
        "gigabytes",
        "am",
        "pm",
        "a.m",
        "p.m",
        "o'clock",
        "o’clock",
    }
)
"""English: small numbers before them are digits too."""

CLOCK_WORDS: Final = frozenset({"am", "pm", "a.m", "p.m"})

SCALES: Final = MappingProxyType({"million": 10**6, "billion": 10**9, "trillion": 10**12})

DECADES: Final = MappingProxyType(
    {
        "twenties": "20s",
        "thirties": "30s",
        "forties": "40s",
        "fifties": "50s",
        "sixties": "60s",
        "seventies": "70s",
        "eighties": "80s",
        "nineties": "90s",
    }
)

REPEATS: Final = MappingProxyType({"double": 2, "triple": 3})

DECIMAL_WORDS: Final = frozenset({"point", "komma", "coma", "punto", "virgule", "vírgula", "virgola"})
"""Beside a number that text2num has not taken them into: a version ("two point five point six")."""

FRACTION_WORDS: Final = frozenset({"half", "quarter", "third", "of"})
