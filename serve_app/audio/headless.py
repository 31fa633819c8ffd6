"""What a stream is that has no header of a file: MPEG frames, the middle of a recording, or samples.

Raw samples have no mark of their own, so everything that could be something else is looked for first, in the
first `PROBE_BYTES`. One frame header is no proof: eleven set bits are in many a quiet recording too. Several
that stand exactly where their lengths say, and none of which recurs within its own frame (as in a tone), are.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from serve_app.audio.formats import SNIFF_BYTES, sniff_format

PROBE_BYTES: Final = 4_096
"""Two of the longest frames of MP3 and the header of a third; 0.13 s of 16-bit samples at 16 kHz."""

_FRAMES: Final = 3
"""Headers in a row that prove MPEG frames, two where the stream ends before a third."""

_MIDDLE: Final = (
    "the {0} stream begins behind its header and cannot be decoded: send the recorder's first piece again"
)
_FOREIGN: Final = MappingProxyType(
    {
        b"RIFF": "a RIFF file other than WAV",
        b"RIFX": "a RIFX file",
        b"FLV\x01": "Flash video",
        b"0&\xb2u\x8ef\xcf\x11": "Windows Media",
        b".snd": "a Sun audio file",
        b"wvpk": "WavPack",
        b"MAC ": "Monkey's Audio",
        b"TTA1": "True Audio",
        b"DSD ": "a DSD file",
        b"\x00\x00\x01\xba": "an MPEG program stream",
        b"PK\x03\x04": "an archive",
        b"%PDF-": "a PDF",
        b"<!DOCTYPE": "an HTML page",
        b"<html": "an HTML page",
    }
)
"""First bytes of what is neither samples nor one of our formats."""


class Sniffed(NamedTuple):
    """`format_name`: of a container; `problem`: why it cannot be decoded; neither: raw samples."""

    format_name: str | None = None
    problem: str | None = None


def sniff_stream(head: bytes, *, ended: bool) -> Sniffed | None:
    """What the stream is that begins with `head`; None: more bytes tell. `ended`: no more come."""
    if len(head) < SNIFF_BYTES and not ended:
        return None
    problem = problem_of(head)
    if problem is not None:
        return Sniffed(problem=problem)
    if head[:1] != b"\xff" and (named := sniff_format(head)) is not None:
        return Sniffed(named)
    if (mpeg := _mpeg_frames(head, ended=ended)) is not None:
        return Sniffed(mpeg)
    if _has_webm_block(head):
        return Sniffed(problem=_MIDDLE.format("webm"))
    if _has_ogg_page(head):
        return Sniffed(problem=_MIDDLE.format("ogg"))
    return Sniffed() if ended or len(head) >= PROBE_BYTES else None


def problem_of(head: bytes) -> str | None:
    """Why a stream that begins like this cannot be decoded, as far as `SNIFF_BYTES` can tell."""
    if head[:4] == b"OggS" and len(head) > 5 and not head[5] & 2:  # RFC 3533, section 6: no first page
        return _MIDDLE.format("ogg")
    if _is_cluster(head, 0):
        return _MIDDLE.format("webm")
    if head[4:8] in (b"moof", b"mdat", b"sidx"):
        return _MIDDLE.format("mp4")
    if sniff_format(head) is None:
        for magic, name in _FOREIGN.items():
            if head.startswith(magic):
                return f"{name} cannot be decoded here"
    return None


# MPEG audio (ISO 11172-3, 13818-3) and ADTS (13818-7)

_RATES_HZ: Final = (44_100, 48_000, 32_000)
_HALVED: Final = MappingProxyType({3: 0, 2: 1, 0: 2})
"""How often, by the bits of the version: MPEG 1, 2 and 2.5."""

_KBIT_S: Final = MappingProxyType(
    {
        (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
        (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
        (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
        (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
        (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
        (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    }
)
"""Of a version (2 is 2.5 too) and a layer."""


class _Frame(NamedTuple):
    """`kind` is the same in all frames of a stream."""

    format_name: str
    kind: tuple[int, ...]
    num_bytes: int


def _frame(head: bytes, at: int) -> _Frame | None:
    """The frame whose header stands at `at`."""
    if len(head) < at + 6 or head[at] != 0xFF or head[at + 1] & 0xE0 != 0xE0:
        return None
    second, third = head[at + 1], head[at + 2]
    if second & 0xF6 == 0xF0:
        length = (head[at + 3] & 3) << 11 | head[at + 4] << 3 | head[at + 5] >> 5
        rate = third >> 2 & 15
        return _Frame("aac", (second, third & 0xFD), length) if length > 7 and rate < 13 else None
    version_bits, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    bitrate, rate = third >> 4, third >> 2 & 3
    if version_bits == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    rate_hz = _RATES_HZ[rate] >> _HALVED[version_bits]
    bits_s = _KBIT_S[1 if version_bits == 3 else 2, layer][bitrate - 1] * 1_000
    padding = third >> 1 & 1
    if layer == 1:
        return _Frame("mp3", (second, rate), (12 * bits_s // rate_hz + padding) * 4)
    factor = 72 if layer == 3 and version_bits != 3 else 144
    return _Frame("mp3", (second, rate), factor * bits_s // rate_hz + padding)


def _mpeg_frames(head: bytes, *, ended: bool) -> str | None:
    """The format of the frames that `head` is made of, from its beginning or from the next one on."""
    at = head.find(0xFF)
    while at >= 0:
        frames = list(_chain(head, at))
        if len(frames) >= (2 if ended and at == 0 else _FRAMES):
            return frames[0].format_name
        at = head.find(0xFF, at + 1)
    return None


def _chain(head: bytes, at: int) -> Iterator[_Frame]:
    """Frames that follow one another, as many as begin within `head`."""
    kind: tuple[int, ...] | None = None
    while (frame := _frame(head, at)) is not None and frame.kind == (kind or frame.kind):
        if 0 <= head.find(head[at : at + 4], at + 1, at + frame.num_bytes) < at + frame.num_bytes:
            return
        yield frame
        kind, at = frame.kind, at + frame.num_bytes


# webm (RFC 8794, RFC 9559) and ogg (RFC 3533)

_CLUSTER: Final = b"\x1f\x43\xb6\x75"
_SIMPLE_BLOCK: Final = 0xA3
_TIMESTAMP: Final = 0xE7
_MAX_TRACK: Final = 8


def _vint(head: bytes, at: int) -> tuple[int, int] | None:
    """An element's size and where it ends."""
    if at >= len(head) or head[at] == 0:
        return None
    num_bytes = 9 - head[at].bit_length()
    if at + num_bytes > len(head):
        return None
    value = int.from_bytes(head[at : at + num_bytes], "big") & (1 << 7 * num_bytes) - 1
    return value, at + num_bytes


def _is_cluster(head: bytes, at: int) -> bool:
    """A cluster with its timestamp."""
    if not head.startswith(_CLUSTER, at):
        return False
    size = _vint(head, at + len(_CLUSTER))
    return size is not None and head[size[1] : size[1] + 1] == bytes([_TIMESTAMP])


def _block(head: bytes, at: int) -> tuple[int, int, int] | None:
    """Track and time of the block at `at`, and where it ends."""
    if head[at] != _SIMPLE_BLOCK or (size := _vint(head, at + 1)) is None or len(head) < size[1] + 4:
        return None
    num_bytes, start = size
    track, flags = head[start] - 0x80, head[start + 3]
    if not 1 <= track <= _MAX_TRACK or flags & 0x70 or num_bytes <= 4:
        return None
    return track, int.from_bytes(head[start + 1 : start + 3], "big", signed=True), start + num_bytes


def _has_webm_block(head: bytes) -> bool:
    """A cluster, or two blocks of one track in a row, the second later."""
    if (at := head.find(_CLUSTER)) >= 0 and _is_cluster(head, at):
        return True
    at = head.find(_SIMPLE_BLOCK)
    while at >= 0:
        block = _block(head, at)
        following = None if block is None or block[2] >= len(head) else _block(head, block[2])
        if block and following and block[0] == following[0] and block[1] < following[1]:
            return True
        at = head.find(_SIMPLE_BLOCK, at + 1)
    return False


def _has_ogg_page(head: bytes) -> bool:
    at = head.find(b"OggS\x00")
    return at >= 0 and at + 5 < len(head) and head[at + 5] < 8
