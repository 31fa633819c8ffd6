"""The frames of a WebSocket client that audio comes in, read without the general parser.

Plain binary frames (final, masked, of up to 64 KB, not compressed) are nearly all that a live client sends:
up to 375 of them a second, each of which costs the parser of `websockets` several times what its audio costs.
Every other frame goes to that parser as it came, so that what is wrong with it is found there.
RFC 6455, section 5.2.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from websockets.frames import apply_mask

_PLAIN: Final = 0x82
"""FIN, no reserved bit, opcode 2."""
_FIN: Final = 0x80
_MASKED: Final = 0x80
_CONTROL: Final = 0x08
_LENGTH_16, _LENGTH_64 = 126, 127
MAX_PLAIN_BYTES: Final = 65_535


class Part(NamedTuple):
    """The payload of one plain frame; else bytes for the general parser."""

    payload: bytes | None
    for_parser: bytes = b""


class FrameSplitter:
    """Cuts what comes behind a handshake. Holds no more than one incomplete plain frame."""

    def __init__(self) -> None:
        self._rest = b""
        self._left_for_parser = 0
        self._in_fragments = False

    def push(self, data: bytes) -> list[Part]:
        """What `data` completes, in its order; frames for the parser also in pieces."""
        if self._rest:
            data = self._rest + data
        parts: list[Part] = []
        at, end = 0, len(data)
        while at < end:
            if self._left_for_parser:
                size = min(self._left_for_parser, end - at)
                parts.append(Part(None, data[at : at + size]))
                self._left_for_parser -= size
                at += size
                continue
            head = _head_bytes(data, at, end)
            if head is None:
                break
            length = _length(data, at)
            is_plain = data[at] == _PLAIN and data[at + 1] & _MASKED and length <= MAX_PLAIN_BYTES
            if not is_plain or self._in_fragments:
                if not data[at] & _CONTROL:
                    self._in_fragments = not data[at] & _FIN
                self._left_for_parser = head + length
                continue
            if end - at < head + length:
                break
            begin = at + head
            at = begin + length
            parts.append(Part(apply_mask(data[begin:at], data[begin - 4 : begin])))
        self._rest = data[at:] if at else data
        return parts

    def take_rest(self) -> bytes:
        """The bytes of a frame that is not complete, for the parser, which reads on from here."""
        rest, self._rest = self._rest, b""
        return rest


def _head_bytes(data: bytes, at: int, end: int) -> int | None:
    """How long the frame's header is, with its mask; None where it is not complete."""
    if end - at < 2:
        return None
    short = data[at + 1] & 0x7F
    size = 2 + (2 if short == _LENGTH_16 else 8 if short == _LENGTH_64 else 0)
    size += 4 if data[at + 1] & _MASKED else 0
    return size if end - at >= size else None


def _length(data: bytes, at: int) -> int:
    short = data[at + 1] & 0x7F
    if short == _LENGTH_16:
        return data[at + 2] << 8 | data[at + 3]
    return int.from_bytes(data[at + 2 : at + 10]) if short == _LENGTH_64 else short
