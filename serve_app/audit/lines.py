"""One line of a chain: encoded, summed, and taken apart again.

    {"n":7,"t":"2026-11-30T09:00:00.000Z","kind":"request",...,"who_sum":"...","prev":"...","hash":"...","who":{...}}

`hash` is the sum over the bytes of the line up to and with `prev`, closed with a brace; `prev` is the `hash`
of the line before. What names a person (`who`: key, address, session) stands behind the sum and is bound to
it by `who_sum`, a sum over it with its own random salt. It can be overwritten on request, and the chain still
verifies: the salt goes with it, so that `who_sum` cannot be tried out.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Fields: TypeAlias = Mapping[str, Any]

START: Final = "0" * 64
"""`prev` of a chain's first line."""

MAX_LINE_BYTES: Final = 256 * 1024

_TAIL: Final = re.compile(
    rb',"prev":"[0-9a-f]{64}"(?P<tail>,"hash":"(?P<hash>[0-9a-f]{64})"(?:,"who":(?P<who>null *|\{.*\}))?\})\Z'
)
"""The end of a line. No string within a line can look like it: their quotes are escaped."""


class BadLine(ValueError):
    """Bytes that are no line of an audit log, or not the one whose sum they carry."""


class Sums:
    """Sums of lines: HMAC-SHA256 with a key, else SHA-256."""

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key

    @property
    def key_id(self) -> str:
        """Which key it is, without being it; empty without one."""
        return self.of(b"which key is this")[:8] if self._key else ""

    def of(self, data: bytes) -> str:
        if self._key:
            return hmac.new(self._key, data, hashlib.sha256).hexdigest()
        return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class Line:
    """A line whose own sum is right. `who` None: it has none, or it was erased (`was_erased`)."""

    n: int
    kind: str
    prev: str
    hash: str
    fields: Fields
    who: Fields | None = None
    was_erased: bool = False


def encode_line(
    sums: Sums, n: int, at: str, kind: str, fields: Fields, prev: str, who: Fields | None = None
) -> tuple[bytes, str]:
    """The line with its newline, and its sum."""
    body: dict[str, Any] = {"n": n, "t": at, "kind": kind, **fields}
    shown = b""
    if who is not None:
        salted = _json({**who, "salt": secrets.token_hex(16)})
        body["who_sum"] = sums.of(salted)
        shown = b',"who":' + salted
    body["prev"] = prev
    data = _json(body)
    total = sums.of(data)
    return data[:-1] + b',"hash":"' + total.encode() + b'"' + shown + b"}\n", total


def decode_line(sums: Sums, data: bytes) -> Line:
    """`data` without its newline. Raises `BadLine`."""
    tail = _TAIL.search(data) if len(data) <= MAX_LINE_BYTES else None
    if tail is None:
        raise BadLine("is no line of an audit log")
    body, total, shown = data[: tail.start("tail")] + b"}", tail["hash"].decode(), tail["who"]
    if not hmac.compare_digest(sums.of(body), total):
        raise BadLine("does not have the sum that it carries")
    fields = _object(body)
    n, kind, prev = fields.get("n"), fields.get("kind"), fields.get("prev")
    if not isinstance(n, int) or not isinstance(kind, str) or not isinstance(prev, str):
        raise BadLine("has no number, kind or sum of the line before")
    if (shown is not None) != ("who_sum" in fields):
        raise BadLine("has lost what says who it was")
    who: dict[str, Any] | None = None
    was_erased = shown is not None and shown.startswith(b"null")
    if shown is not None and not was_erased:
        if not hmac.compare_digest(sums.of(shown), str(fields["who_sum"])):
            raise BadLine("says somebody else than it did")
        who = _object(shown)
        who.pop("salt", None)
    return Line(n, kind, prev, total, fields, who, was_erased)


def erasing(data: bytes) -> tuple[int, bytes]:
    """Where in a line `who` stands, and the bytes to put there: as many, so that the line can be overwritten
    in its file while others are appended. Raises `BadLine` where it has none."""
    tail = _TAIL.search(data)
    if tail is None or tail["who"] is None:
        raise BadLine("says nothing of who it was")
    start, end = tail.span("who")
    return start, b"null".ljust(end - start)


def _json(value: Fields) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        raise BadLine("is no JSON") from None
    if not isinstance(value, dict):
        raise BadLine("is no object")
    return value
