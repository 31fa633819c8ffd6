"""Signatures of webhooks, as Standard Webhooks has them.

Source: https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

_SECRET_PREFIX: Final = "whsec_"


def signing_key(secret: str) -> bytes:
    """`whsec_` and base64 as the standard writes secrets, any other text as it is."""
    if secret.startswith(_SECRET_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError("webhook_secret: what follows whsec_ must be base64") from None
    return secret.encode()


def webhook_headers(delivery_id: str, body: bytes, key: bytes | None, now_s: float) -> dict[str, str]:
    """`key` None: unsigned."""
    timestamp = str(int(now_s))
    headers = {
        "content-type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
    }
    if key is not None:
        signed = f"{delivery_id}.{timestamp}.".encode() + body
        digest = hmac.digest(key, signed, hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers
