"""Answers made of wire records, and the small bodies that ask for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serve_app.core.errors import PayloadTooLarge, SottoError


class RecordResponse(Response):
    """A record as JSON: its fields in their order, without those that are UNSET."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


async def small_body(
    request: Request, max_bytes: int, refusal: Callable[[str], SottoError] = PayloadTooLarge
) -> bytes:
    """The whole body of a request; raises `refusal` where it is longer."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise refusal(f"a JSON body has at most {max_bytes} bytes")
    return bytes(body)
