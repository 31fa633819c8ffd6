"""From the address that a person types to the URLs of the doors."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

DEFAULT_URL = "http://127.0.0.1:8000"

_HTTP_TO_WS = {"http": "ws", "https": "wss"}
_SCHEMES = {**{scheme: scheme for scheme in _HTTP_TO_WS}, **{ws: http for http, ws in _HTTP_TO_WS.items()}}


def http_url(base: str, path: str, query: Mapping[str, str] | None = None) -> str:
    """`base` may lack a scheme or carry a WebSocket's. Raises `ValueError` on other schemes."""
    parts = urlsplit(base if "://" in base else f"http://{base}")
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"{base!r} is no server address: expected something like {DEFAULT_URL}")
    scheme = _SCHEMES[parts.scheme]
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, urlencode(query or {}), ""))


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
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
