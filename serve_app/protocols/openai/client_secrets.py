"""Ephemeral client secrets: what a backend hands its browsers so that no real key leaves it.

A secret is `ek_<payload>.<signature>`, both URL-safe base64: the payload is JSON with the Unix second it
expires at, 96 random bits, the session's settings and the id of the key that asked; the signature is
HMAC-SHA256 over it. Nothing is kept on the server, so every replica with the same key knows them all. As at
OpenAI it can be used until it expires.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from serve_app.protocols.openai.errors import RefusedParameter
from serve_app.protocols.openai.realtime_session import SessionUpdate, decode_json, decode_session

PREFIX = "ek_"
MAX_SECRET_CHARS = 24 * 1024
MAX_BODY_BYTES = 16 * 1024
DEFAULT_LIFETIME_S = 600
BETA_LIFETIME_S = 60
_PURPOSE = b"sotto openai client secret 1\0"
"""The key signs other things elsewhere: no signature of one kind may pass for another."""


class ExpiresAfter(msgspec.Struct, frozen=True):
    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=10, le=7_200)] = DEFAULT_LIFETIME_S


class SecretRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/realtime/client_secrets`."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: msgspec.Raw = msgspec.Raw(b"{}")


class ClientSecret(msgspec.Struct, frozen=True):
    """What a secret says: valid before Unix second `expires_at`, for a session with these settings, as long
    as the key of `key_id` holds that it was made with (empty: none was needed)."""

    expires_at: int
    nonce: str
    session: msgspec.Raw = msgspec.Raw(b"{}")
    key_id: str = ""

    @property
    def settings(self) -> SessionUpdate:
        """The settings of the session to open; they were checked when the secret was made."""
        return decode_session(bytes(self.session))


def secret_request(body: bytes) -> SecretRequest:
    """Raises `RefusedParameter`; an empty body asks for the defaults. Its session is checked too."""
    if len(body) > MAX_BODY_BYTES:
        raise RefusedParameter(f"a body of more than {MAX_BODY_BYTES} bytes", param="session")
    request = decode_json(body or b"{}", SecretRequest)
    decode_session(bytes(request.session))
    return request


def issue_secret(key: bytes, secret: ClientSecret) -> str:
    payload = msgspec.json.encode(secret)
    return f"{PREFIX}{_encoded(payload)}.{_encoded(_signature(key, payload))}"


def verify_secret(key: bytes, value: str, now_s: float) -> ClientSecret | None:
    """What a secret of ours says; None for one that is forged, broken or expired. Constant-time compare."""
    if not value.startswith(PREFIX) or len(value) > MAX_SECRET_CHARS or not value.isascii():
        return None
    payload_text, _, signature_text = value.removeprefix(PREFIX).partition(".")
    try:
        payload, signature = _decoded(payload_text), _decoded(signature_text)
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(signature, _signature(key, payload)):
        return None
    secret = msgspec.json.decode(payload, type=ClientSecret)
    return secret if now_s < secret.expires_at else None


def _signature(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, _PURPOSE + payload, hashlib.sha256)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
