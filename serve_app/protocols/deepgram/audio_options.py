"""Deepgram's `encoding`, `sample_rate` and `channels` to what the audio is."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from serve_app.audio.pcm import Encoding
from serve_app.core.errors import InvalidMessage
from serve_app.protocols.dialect import AudioInput, ContainerAudio, RawAudio

_RAW: Final[MappingProxyType[str, Encoding]] = MappingProxyType(
    {"linear16": "pcm16", "linear32": "float32", "mulaw": "mulaw", "alaw": "alaw"}
)
_CONTAINERS: Final = frozenset({"flac", "opus", "ogg-opus", "webm-opus", "amr-nb", "amr-wb", "aac", "mp3"})
"""Codecs that come in a container here, which its first bytes name."""

TELEPHONE_RATE_HZ: Final = 8_000


def audio_input(
    encoding: str | None, sample_rate_hz: int | None, channels: int, multichannel: bool
) -> AudioInput:
    """No encoding: a container. Raises `InvalidMessage` on an encoding that is not known, or linear samples
    without their rate (mu-law and A-law have the telephone's, 8 kHz)."""
    if encoding is None:
        return ContainerAudio()
    name = encoding.strip().lower()
    if name in _CONTAINERS:
        return ContainerAudio()
    if name not in _RAW:
        names = ", ".join(sorted([*_RAW, *_CONTAINERS]))
        raise InvalidMessage(f"encoding: expected one of {names}, got {name[:32]!r}")
    if sample_rate_hz is None and name.startswith("linear"):
        raise InvalidMessage(f"sample_rate: required with encoding={name}")
    return RawAudio(_RAW[name], sample_rate_hz or TELEPHONE_RATE_HZ, channels, multichannel)
