"""Which containers we open, what they are called, and how their first bytes look.

A name stands for a container family, not for a file's ending: `m4a` and `mp4` are both `mp4`, `opus`
and `oga` are `ogg`, `mkv` is `webm`. Every demuxer outside the list is refused by name and by FFmpeg's own
whitelist: a playlist such as `ffconcat` would otherwise make the decoder read the server's own files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

from serve_app.core.errors import UnsupportedFormat

DEMUXERS: Final = MappingProxyType(
    {
        "wav": "wav",
        "mp3": "mp3",
        "flac": "flac",
        "ogg": "ogg",
        "webm": "matroska",
        "mp4": "mov",
        "aac": "aac",
        "aiff": "aiff",
        "amr": "amr",
        "caf": "caf",
    }
)
"""Format name -> FFmpeg demuxer."""

ALL_FORMATS: Final = frozenset(DEMUXERS)

FORMATS_WITH_TIMES: Final = frozenset({"webm", "mp4", "ogg"})
"""In these a stretch may be left out on purpose; in the others one sample follows the other."""

_ALIASES: Final = MappingProxyType(
    {
        "wave": "wav",
        "mpeg": "mp3",
        "mpga": "mp3",
        "mpeg3": "mp3",
        "oga": "ogg",
        "opus": "ogg",
        "mkv": "webm",
        "mka": "webm",
        "matroska": "webm",
        "m4a": "mp4",
        "mov": "mp4",
        "quicktime": "mp4",
        "3gp": "mp4",
        "3gpp": "mp4",
        "adts": "aac",
        "aacp": "aac",
        "aif": "aiff",
        "aifc": "aiff",
    }
)

_ENDINGS: Final = frozenset(f".{name}" for name in (*DEMUXERS, *_ALIASES))


def is_named_as_audio(path: PurePath) -> bool:
    """By its ending: for picking recordings out of a folder; what a file is, its first bytes say."""
    return path.suffix.lower() in _ENDINGS


SNIFF_BYTES: Final = 16
"""This many first bytes are enough for `sniff_format`."""


ID3_HEADER_BYTES: Final = 10


def id3_tag_bytes(head: bytes) -> int:
    """How long the ID3v2 tag is that begins here, its header included (id3.org, 2.4.0, section 3.1); 0: none.

    Tags stand in front of AAC, FLAC and WAV too: they say nothing of what follows.
    """
    if len(head) < ID3_HEADER_BYTES or head[:3] != b"ID3" or 0xFF in head[3:5] or max(head[6:10]) > 0x7F:
        return 0
    length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    footer_bytes = ID3_HEADER_BYTES if head[5] & 0x10 else 0
    return ID3_HEADER_BYTES + length + footer_bytes


def canonical_format(name: str) -> str | None:
    """The format that a file extension or a setting names; None: unknown."""
    name = name.strip().lower().removeprefix(".")
    name = _ALIASES.get(name, name)
    return name if name in ALL_FORMATS else None


def canonical_formats(names: Iterable[str]) -> frozenset[str]:
    """The set of formats that a setting lists. Raises `ValueError` that names the first unknown one."""
    formats = set()
    for name in names:
        found = canonical_format(name)
        if found is None:
            raise ValueError(
                f"unknown audio format {name!r}: expected some of {', '.join(sorted(ALL_FORMATS))}"
            )
        formats.add(found)
    return frozenset(formats)


def require_allowed(format_name: str, allowed_formats: frozenset[str]) -> None:
    """Raise `UnsupportedFormat` that says what would have been taken."""
    if format_name not in allowed_formats:
        raise UnsupportedFormat(
            f"audio format {format_name} is not allowed: expected {', '.join(sorted(allowed_formats))}"
        )


def sniff_format(head: bytes) -> str | None:
    """Tell the container by its first `SNIFF_BYTES` bytes; None: not one of ours, or too few bytes.

    A tag counts as MP3, which it mostly stands before: who can look behind it passes over `id3_tag_bytes`."""
    if len(head) < 4:
        return None
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return "wav" if head[8:12] == b"WAVE" else None
    if head[:4] == b"FORM":
        return "aiff" if head[8:12] in (b"AIFF", b"AIFC") else None
    if head[4:8] in (b"ftyp", b"moov", b"wide", b"styp"):
        return "mp4"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return _mpeg_audio(head)


_MAGIC: Final = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1a\x45\xdf\xa3", "webm"),
    (b"#!AMR", "amr"),
    (b"caff", "caf"),
    (b"ID3", "mp3"),
)


_OTHER_DATA: Final = (
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "XML"),
    (b"{", "JSON"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"GIF8", "a picture"),
    (b"MThd", "a MIDI file"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media (ASF, WMA)"),
    (b"FLV\x01", "Flash video"),
    (b"#EXTM3U", "a playlist"),
    (b"ffconcat", "a playlist"),
    (b".snd", "AU audio"),
    (b"MAC ", "Monkey's Audio"),
    (b"wvpk", "WavPack audio"),
    (b"version https://git-lfs", "a Git LFS pointer in place of the file"),
)


_TEXT: Final = frozenset((*range(32, 127), 9, 10, 13))


def known_as(head: bytes) -> str | None:
    """What data is that `sniff_format` does not know, in words for the person who sent it."""
    if head[:4] == b"RIFF" and len(head) >= 12:
        return "AVI video" if head[8:12] == b"AVI " else "a RIFF file that is no WAV"
    for magic, name in _OTHER_DATA:
        if head.lstrip().lower().startswith(magic[:SNIFF_BYTES].lower()):
            return name
    if len(head) == SNIFF_BYTES and all(byte in _TEXT for byte in head):
        return "text"
    return None


def _mpeg_audio(head: bytes) -> str | None:
    """MPEG audio frame header: 11 sync bits; layer 0 is ADTS (ISO 13818-7), else ISO 11172-3."""
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer, version = head[1] >> 1 & 3, head[1] >> 3 & 3
    if layer == 0:
        return "aac" if head[1] & 0xF0 == 0xF0 and head[2] >> 2 & 15 < 13 else None
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return "mp3" if version != 1 and bitrate not in (0, 15) and rate != 3 else None


def mp4_index_is_at_the_end(head: bytes) -> bool:
    """Whether an MP4 begins with its audio (`mdat`), so that nothing can be decoded before its last byte.

    Walks the top-level boxes in `head`; False where `head` is too short to tell (ISO 14496-12, section 4.2).
    """
    position = 0
    while position + 8 <= len(head):
        size = int.from_bytes(head[position : position + 4], "big")
        kind = head[position + 4 : position + 8]
        if kind in (b"moov", b"moof", b"mdat"):
            return kind == b"mdat"
        if size == 1:
            size = int.from_bytes(head[position + 8 : position + 16], "big")
        if size < 8:
            return False
        position += size
    return False
