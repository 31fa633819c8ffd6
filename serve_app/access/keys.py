"""Keys as clients of every protocol offer theirs.

| where | who |
| --- | --- |
| `X-API-Key: KEY` | curl, dashboards, proxies |
| `Authorization: Bearer KEY` | our clients, OpenAI's |
| `Authorization: Token KEY` | Deepgram's |
| subprotocol `openai-insecure-api-key.KEY` | browsers, as OpenAI's library offers it |
| subprotocols `token, KEY` (or `bearer`) | browsers, as Deepgram's library offers it |

A key in an address would be in every log on the way: none is taken from there unless a setting says so
(`web/keys.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

KEY_HEADER: Final = "x-api-key"
MAX_KEY_CHARS: Final = 24 * 1024
"""Client secrets carry a session's settings; no key is longer."""

OPENAI_SUBPROTOCOL: Final = "openai-insecure-api-key."
_SCHEMES: Final = ("bearer", "token")


def offered_keys(headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> list[str]:
    """What a request offers as keys, by lower-case header names; what is too long to be one is left out."""
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    offered = [headers.get(KEY_HEADER, "")]
    if scheme.lower() in _SCHEMES:
        offered.append(credentials.strip())
    for index, name in enumerate(subprotocols):
        if name.startswith(OPENAI_SUBPROTOCOL):
            offered.append(name.removeprefix(OPENAI_SUBPROTOCOL))
        elif name.lower() in _SCHEMES:
            offered += subprotocols[index + 1 : index + 2]
    return [key for key in offered if key and len(key) <= MAX_KEY_CHARS]


def answered_subprotocol(subprotocols: Sequence[str]) -> str | None:
    """What to accept a socket with that offered its key as a subprotocol: the name before the key."""
    return next((name for name in subprotocols if name.lower() in _SCHEMES), None)
