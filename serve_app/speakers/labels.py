"""How speakers are called on the wire; inside they are numbers from 0."""

from __future__ import annotations


def speaker_label(index: int) -> str:
    """`SPEAKER_01`, `SPEAKER_02`, ...: at least two digits, counted from 1."""
    return f"SPEAKER_{index + 1:02d}"


def openai_label(index: int) -> str:
    """`A` to `Z`, then `AA`, `AB`, ..."""
    letters, rest = "", index + 1
    while rest:
        rest, letter = divmod(rest - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return letters


def known_label(index: int | None) -> str | None:
    """`speaker_label`, or None where nobody knows yet."""
    return None if index is None else speaker_label(index)
