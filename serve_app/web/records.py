"""Answers made of wire records."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response


class RecordResponse(Response):
    """A record as JSON: its fields in their order, without those that are UNSET."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)
