"""Exceptions without what they say: an engine, a parser or a library may quote the words that it was given.

What is left is what a maintainer needs: which exception, and in which lines of code.
"""

from __future__ import annotations

import hashlib
import hmac
import traceback


class SealedError(Exception):
    """Stands for an exception whose message is not shown: its type and where it was raised."""


def seal(error: BaseException) -> SealedError:
    """`error` by its type and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return SealedError(f"{type(error).__qualname__}{where} (message hidden)")


def sealed_traceback(error: BaseException) -> str:
    """As Python prints it, causes and groups in front, but each exception's message left out."""
    parts, known = [], set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in known:
        known.add(id(current))
        frames = "".join(traceback.format_list(traceback.extract_tb(current.__traceback__)))
        parts.append(f"Traceback (most recent call last):\n{frames}{type(current).__qualname__}: (hidden)")
        if isinstance(current, BaseExceptionGroup):
            parts += [str(seal(inner)) for inner in current.exceptions]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\n".join(reversed(parts))


class Pseudonyms:
    """Stable names for ids that clients choose: who has the key can tell which id a name stands for, from
    the id to the name alone."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __call__(self, value: str) -> str:
        """`p-` and 16 hexadecimal digits; a pseudonym stays as it is."""
        if value.startswith("p-") and len(value) == 18:
            return value
        digest = hmac.new(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"p-{digest.hexdigest()[:16]}"
