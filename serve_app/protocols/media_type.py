"""What a `Content-Type` says of an audio body: a container to be recognised, or raw samples."""

from __future__ import annotations

import re
from email.message import Message
from typing import TYPE_CHECKING

from serve_app.audio.pcm import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from serve_app.core.errors import InvalidMessage, UnsupportedFormat
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.dialect import AudioInput, ContainerAudio, RawAudio
from sotto_client.audio import PCM_ENCODINGS

if TYPE_CHECKING:
    from serve_app.audio.pcm import Encoding

_RAW_TYPES: dict[str, Encoding] = {
    "audio/pcm": "pcm16",
    "audio/x-pcm": "pcm16",
    "audio/raw": "pcm16",
    "audio/basic": "mulaw",
    "audio/pcmu": "mulaw",
    "audio/pcma": "alaw",
}
_WHOLE_NUMBER = re.compile(r"[0-9]{1,6}(\.0{1,6})?")
_CONTAINER_TYPES = frozenset({"application/ogg", "application/octet-stream", "video/webm", "video/mp4"})


def parse_audio_type(content_type: str | None) -> AudioInput:
    """`audio/pcm;rate=16000[;encoding=float32]` to `RawAudio`, other `audio/*` to `ContainerAudio`.

    No type at all counts as a container. Raises `UnsupportedFormat` on types that carry no audio and
    `InvalidMessage` on a rate outside 8 to 192 kHz, an unknown encoding or too many channels.
    """
    if not content_type:
        return ContainerAudio()
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    media_type = header.get_content_type()
    named = content_type.partition(";")[0].strip().lower()
    if named in _RAW_TYPES:
        return _raw(header, _RAW_TYPES[named])
    if named == media_type and (named.startswith("audio/") or named in _CONTAINER_TYPES):
        return ContainerAudio()
    raise UnsupportedFormat(
        f"content type {content_type[:100]!r} carries no audio: send audio/* or audio/pcm"
    )


def _raw(header: Message, encoding: Encoding) -> RawAudio:
    default_hz = SAMPLE_RATE_HZ if encoding == "pcm16" else MIN_RATE_HZ
    rate_hz = _integer(header, "rate", default_hz)
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise InvalidMessage(f"rate must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz, got {rate_hz}")
    channels = _integer(header, "channels", 1)
    if not 1 <= channels <= MAX_CHANNELS:
        raise InvalidMessage(f"channels must be 1 to {MAX_CHANNELS}, got {channels}")
    if (named := _parameter(header, "encoding")) is not None:
        if named not in PCM_ENCODINGS:
            raise InvalidMessage(f"unknown encoding {named[:40]!r}, expected one of {sorted(PCM_ENCODINGS)}")
        encoding = PCM_ENCODINGS[named]
    return RawAudio(encoding, rate_hz, channels)


def _parameter(header: Message, name: str) -> str | None:
    value = header.get_param(name)
    return value.strip().lower() if isinstance(value, str) and value.strip() else None


def _integer(header: Message, name: str, default: int) -> int:
    value = _parameter(header, name)
    if value is None:
        return default
    if not _WHOLE_NUMBER.fullmatch(value):
        raise InvalidMessage(f"{name} must be a whole number, got {value[:40]!r}")
    return int(value.partition(".")[0])
