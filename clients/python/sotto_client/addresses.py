"""From the address that a person types to the URLs of the doors."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

DEFAULT_URL = "http://127.0.0.1:8000"

_HTTP_TO_WS = {"http": "ws", "https": "wss"}
_SCHEMES = {**{scheme: scheme for scheme in _HTTP_TO_WS}, **{ws: http for http, ws in _HTTP_TO_WS.items()}}


_DOORS = ("/ws/stt", "/transcribe/stream", "/transcribe")


def http_url(base: str, path: str, query: Mapping[str, str] | None = None) -> str:
    """`base` may lack a scheme, carry a WebSocket's, or be the address of one of the doors used here.

    Raises `ValueError` on other schemes, and on a port that is none.
    """
    base = base.strip()
    try:
        parts = urlsplit(base if "://" in base else f"http://{base}")
        usable = parts.scheme in _SCHEMES and parts.hostname and parts.port != 0
    except ValueError:  # of a port that is no number, or an IPv6 address that is none
        usable = False
    if not usable:
        raise ValueError(f"{base!r} is no server address: expected something like {DEFAULT_URL}")
    root = parts.path.rstrip("/")
    root = next((root.removesuffix(door) for door in _DOORS if root.endswith(door)), root).rstrip("/")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, root + path, urlencode(query or {}), ""))


def websocket_url(base: str, path: str, query: Mapping[str, str] | None = None) -> str:
    scheme, rest = http_url(base, path, query).split("://", 1)
    return f"{_HTTP_TO_WS[scheme]}://{rest}"


def is_loopback(url: str) -> bool:
    """True where a proxy from the environment must not come between."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def authorization(api_key: str | None) -> dict[str, str]:
    """Raises `ValueError`, without the key in it, where no header can carry the key."""
    if api_key and not all("!" <= character <= "~" for character in api_key):
        raise ValueError("the API key has a space or a character that is not ASCII: no header can carry it")
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
