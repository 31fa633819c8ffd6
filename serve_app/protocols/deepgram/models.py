"""Which `model` a client of `/v1/listen` may name: any of Deepgram's, or one that is hosted here.

Deepgram's names mean the server's own model, as the answer's metadata says. Others are refused, as Deepgram
refuses what it does not have: a name that was mistyped would get an answer of another model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from serve_app.core.errors import InvalidMessage
from serve_app.core.jobs import ModelInfo, Role
from serve_app.models.registry import find_spec

_FAMILIES: Final = re.compile(r"(nova|nova-2|nova-3|flux|enhanced|base|whisper)(-[a-z0-9]+)*")
_USE_CASES: Final = frozenset(
    {"general", "meeting", "phonecall", "voicemail", "finance", "conversationalai", "video", "medical"}
    | {"drivethru", "automotive", "atc"}
)
_CUSTOM: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A model trained for one customer has a UUID for a name."""


def require_model(name: str, models: Sequence[ModelInfo]) -> None:
    """Raises `InvalidMessage` for a name that is none of Deepgram's and of none of `models`."""
    lowered = name.lower()
    if not name or lowered in _USE_CASES or _FAMILIES.fullmatch(lowered) or _CUSTOM.fullmatch(lowered):
        return
    finals = [model.name for model in models if model.role == Role.FINAL.value]
    wanted = find_spec(name)
    if name in finals or (wanted is not None and any(wanted is find_spec(known) for known in finals)):
        return
    here = ", ".join(dict.fromkeys(finals)) or "none yet"
    raise InvalidMessage(
        f"model: {name[:64]!r} is neither one of Deepgram's nor hosted here (hosted: {here})"
    )
