"""What a client says on `/v1/realtime` and asks of its REST endpoints: records for the API documents."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from serve_app.protocols.openai.client_secrets import ExpiresAfter
from serve_app.protocols.openai.realtime_session import SessionUpdate


class RealtimeQuery(Struct, frozen=True, kw_only=True):
    """The address of `/v1/realtime`."""

    intent: Literal["transcription"] = "transcription"
    model: str | None = None


class _Client(Struct, frozen=True, kw_only=True):
    event_id: str | None = None


class Update(_Client, tag_field="type", tag="session.update", frozen=True, kw_only=True):
    """Change what the session is: answered with `session.updated`."""

    session: SessionUpdate


class BetaUpdate(_Client, tag_field="type", tag="transcription_session.update", frozen=True, kw_only=True):
    """The beta's update; from here on the server speaks the beta."""

    session: SessionUpdate


class Append(_Client, tag_field="type", tag="input_audio_buffer.append", frozen=True, kw_only=True):
    """Audio in base64, 15 MiB at most; nothing answers it."""

    audio: str


class Commit(_Client, tag_field="type", tag="input_audio_buffer.commit", frozen=True, kw_only=True):
    """End the turn in progress now."""


class Clear(_Client, tag_field="type", tag="input_audio_buffer.clear", frozen=True, kw_only=True):
    """Forget the turn in progress."""


class ClientSecretRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the secret is good for, and the session that it opens; both may be left out."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: SessionUpdate | UnsetType = UNSET
