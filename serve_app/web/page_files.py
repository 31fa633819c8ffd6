"""The files of the live page: what a browser loads from `GET /` on, all of it from this package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response

import serve_app

INDEX: Final = "index.html"

_PACKAGE = Path(serve_app.__file__).resolve().parent
_PAGE = _PACKAGE / "web" / "page"
_CLIENT = _PACKAGE.parent / "clients" / "javascript"
_SAMPLE = _PACKAGE / "audio" / "sample.flac"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".flac": "audio/flac",
}

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS: Final = {
    "cache-control": "no-cache",  # kept, and asked for again: the modules of two versions never meet
    "content-security-policy": _POLICY,
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    content: bytes
    media_type: str
    etag: str

    def answer(self, headers: Headers) -> Response:
        """The file, or 304 where the browser has it."""
        known = [tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")]
        own = {**_HEADERS, "etag": self.etag}
        if self.etag in known:
            return Response(status_code=304, headers=own)
        return Response(self.content, headers={**own, "content-type": self.media_type})


@cache
def page_files() -> dict[str, PageFile]:
    """By name below `/page/`; `client/` has the JavaScript client's modules, as they are."""
    paths = {path.name: path for path in _PAGE.iterdir() if path.suffix in _TYPES}
    paths |= {f"client/{path.name}": path for path in _CLIENT.glob("*.js")}
    paths[_SAMPLE.name] = _SAMPLE
    return {name: _read(path) for name, path in paths.items()}


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, _TYPES[path.suffix], f'"{sha256(content).hexdigest()[:32]}"')


def wants_page(headers: Headers) -> bool:
    """Whether HTML is named in `Accept`, as browsers do, and no less liked than JSON."""
    liked = {"text/html": 0.0, "application/json": 0.0}
    for part in headers.get("accept", "").lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if media_type in liked:
            liked[media_type] = _weight(parameters)
    return liked["text/html"] > 0 and liked["text/html"] >= liked["application/json"]


def _weight(parameters: list[str]) -> float:
    for one in parameters:
        if one.startswith("q="):
            try:
                return float(one[2:])
            except ValueError:
                return 0.0
    return 1.0
