"""What a server tells an application of a request, without a server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def post_scope(
    path: str, content_type: str, *, query: str = "", headers: Iterable[tuple[bytes, bytes]] = ()
) -> dict[str, Any]:
    """A POST over HTTP/1.1; its body and what becomes of the answer are in the test's hands."""
    return {
        **connection_scope(path, query),
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "headers": [(b"content-type", content_type.encode()), *headers],
    }


def connection_scope(path: str, query: str = "") -> dict[str, Any]:
    """What requests and WebSockets have alike."""
    return {
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
        "extensions": {},
    }
