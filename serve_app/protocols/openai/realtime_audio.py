"""What a Realtime client sends: its events, and the audio in them."""

from __future__ import annotations

import binascii
from base64 import b64decode

import msgspec

from serve_app.core.errors import PayloadTooLarge
from serve_app.protocols.dialect import Audio, Command
from serve_app.protocols.openai.errors import RefusedParameter

MAX_AUDIO_BYTES = 15 * 1024 * 1024
"""Audio of one append, as at OpenAI."""
MAX_EVENT_CHARS = 4 * MAX_AUDIO_BYTES // 3 + 64 * 1024
MAX_PIECE_BYTES = 32 * 1024
"""A long append is taken in pieces, so that back-pressure works within it too."""


class ClientEvent(msgspec.Struct, frozen=True):
    """Any event of a client; what belongs to other types than its own is ignored."""

    type: str
    event_id: str | None = None
    audio: str | None = None
    session: msgspec.Raw = msgspec.Raw()


def decode_audio(audio: str | None) -> bytes:
    """Of an append's base64. Raises `RefusedParameter` and `PayloadTooLarge`."""
    if audio is None:
        raise RefusedParameter("Missing required parameter: 'audio'.", param="audio")
    try:
        data = b64decode(audio, validate=True)
    except (binascii.Error, ValueError):
        raise RefusedParameter("audio is not valid base64", param="audio", reason="invalid_value") from None
    if len(data) > MAX_AUDIO_BYTES:
        raise PayloadTooLarge(f"audio of {len(data)} bytes, the limit is {MAX_AUDIO_BYTES}")
    return data


def pieces_of(data: bytes) -> list[Command]:
    """Audio commands of at most `MAX_PIECE_BYTES`."""
    return [Audio(data[at : at + MAX_PIECE_BYTES]) for at in range(0, len(data), MAX_PIECE_BYTES)]
