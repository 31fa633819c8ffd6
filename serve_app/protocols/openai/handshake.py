"""How a Realtime socket is opened: what its URL, headers and subprotocols ask for.

Browsers cannot set headers and offer subprotocols instead: `realtime`, `openai-insecure-api-key.<key>` and,
for the beta, `openai-beta.realtime-v1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from serve_app.access.keys import OPENAI_SUBPROTOCOL
from serve_app.protocols.choices import Parameters
from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.request import MAX_MODEL_CHARS

REALTIME_PATH = "/v1/realtime"
SUBPROTOCOL = "realtime"
BETA_SUBPROTOCOL = "openai-beta.realtime-v1"
BETA_HEADER = "realtime=v1"
_CONVERSING = ("gpt-realtime", "gpt-4o-realtime", "gpt-4o-mini-realtime")


@dataclass(frozen=True, slots=True)
class Handshake:
    """`model`: None where the URL names none or one that converses, whose transcription model comes later;
    `token`: the key offered, of any kind; `subprotocol`: what to accept the socket with."""

    model: str | None = None
    beta: bool = False
    token: str | None = field(default=None, repr=False)
    subprotocol: str | None = None


def read_handshake(
    query: Parameters, *, authorization: str = "", beta_header: str = "", subprotocols: Sequence[str] = ()
) -> Handshake:
    """Raises `RefusedParameter` where the URL asks for something else than transcription."""
    asked = dict(query)
    intent = asked.get("intent") or "transcription"
    if intent != "transcription":
        raise RefusedParameter(
            f"intent {intent[:40]!r} is not served here, only 'transcription'",
            param="intent",
            reason="invalid_value",
        )
    model = asked.get("model") or None
    if model is not None and len(model) > MAX_MODEL_CHARS:
        raise RefusedParameter("the name of the model is too long", param="model", reason="invalid_value")
    if model is not None and model.startswith(_CONVERSING) and model != "gpt-realtime-whisper":
        model = None
    return Handshake(
        model=model,
        beta=BETA_HEADER in beta_header or BETA_SUBPROTOCOL in subprotocols,
        token=_token(authorization, subprotocols),
        subprotocol=_accepted(subprotocols),
    )


def _token(authorization: str, subprotocols: Sequence[str]) -> str | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    keys = (name for name in subprotocols if name.startswith(OPENAI_SUBPROTOCOL))
    return next((name.removeprefix(OPENAI_SUBPROTOCOL) for name in keys), None)


def _accepted(subprotocols: Sequence[str]) -> str | None:
    """One that was offered, or a browser would hang up; a key is not sent back unless it is all there is."""
    if SUBPROTOCOL in subprotocols:
        return SUBPROTOCOL
    return min(subprotocols, key=lambda name: name.startswith(OPENAI_SUBPROTOCOL), default=None)
