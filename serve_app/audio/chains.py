"""Recordings one behind the other in one stream of bytes: a header that comes again is another recording.

Recorders that are stopped and started write such streams, and so does `cat a.webm b.webm`. FFmpeg reads them
as one: it takes the first header's index for the second's data, drops what does not fit, or stops. So the
bytes are cut where a header of the same format begins, and each part is opened by itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import BinaryIO, Final, TypeAlias

from serve_app.audio.formats import ID3_HEADER_BYTES, id3_tag_bytes

MAX_PARTS: Final = 4096
"""More recordings in one stream are not opened, since each costs a new decoder; the client is told."""
TOO_MANY_PARTS: Final = f"only the first {MAX_PARTS} recordings in the data were decoded"

_SCAN_BYTES: Final = 1024 * 1024

_Template: TypeAlias = tuple[frozenset[int], ...]
"""For each byte of a header the values it may have."""

_ANY: Final = frozenset(range(256))


def _literal(text: bytes) -> _Template:
    return tuple(frozenset({byte}) for byte in text)


def _within(*ranges: tuple[int, int]) -> _Template:
    return (frozenset(value for low, high in ranges for value in range(low, high + 1)),)


_ID3: Final = (
    *_literal(b"ID3"),
    *_within((2, 4)),
    *_within((0, 0)),
    frozenset(flags << 4 for flags in range(16)),
    *(_within((0, 0x7F)) * 4),
)
_EBML: Final = _literal(b"\x1a\x45\xdf\xa3")
_EBML_FIELD: Final = (*_literal(b"\x42"), frozenset({0x82, 0x85, 0x86, 0x87, 0xF2, 0xF3, 0xF7}))
_MPEG_FRAME: Final = (*_literal(b"\xff"), *_within((0xE2, 0xFF)), *_within((0x10, 0xEF)), _ANY)


def _lame(side_info_bytes: int, name: bytes) -> _Template:
    """The first frame of an MP3 that says how long it is, in place of sound (LAME's and Xing's header)."""
    return (*_MPEG_FRAME, *_literal(bytes(side_info_bytes)), *_literal(name))


_TEMPLATES: Final = MappingProxyType(
    {
        "wav": tuple((*_literal(kind), *((_ANY,) * 4), *_literal(b"WAVE")) for kind in (b"RIFF", b"RF64")),
        "aiff": (
            (*_literal(b"FORM"), *((_ANY,) * 4), *_literal(b"AIF"), frozenset(b"FC")),
        ),
        "flac": ((*_literal(b"fLaC"), frozenset({0, 0x80}), *_literal(b"\0\0\x22")), _ID3),
        "mp3": (_ID3, *(_lame(size, name) for size in (9, 17, 32) for name in (b"Xing", b"Info"))),
        "ogg": (_literal(b"OggS\0") + (_ANY,),),
        "webm": tuple(
            (*_EBML, *size, *_EBML_FIELD)
            for size in (
                _within((0x81, 0xFF)),
                (*_within((0x40, 0x7F)), _ANY),
                (*_within((0x10, 0x1F)), *((_ANY,) * 3)),
                (*_literal(b"\x01\0\0\0\0\0"), _ANY, _ANY),
            )
        ),
        "mp4": ((*_literal(b"\0\0\0"), *_within((8, 0xFF)), *_literal(b"ftyp"), *(_within((32, 126)) * 4)),),
        "caf": (_literal(b"caff\0\x01\0\0desc"),),
        "amr": (_literal(b"#!AMR\n"), _literal(b"#!AMR-WB\n")),
        "aac": (),  # ADTS has no header but that of each frame: FFmpeg goes on by itself
    }
)  # fmt: skip


def _pattern(template: _Template) -> re.Pattern[bytes]:
    def one(values: frozenset[int]) -> bytes:
        if len(values) == 256:
            return b"[\\x00-\\xff]"
        codes = b"".join(b"\\x%02x" % value for value in sorted(values))
        return codes if len(values) == 1 else b"[" + codes + b"]"

    return re.compile(b"".join(map(one, template)), re.DOTALL)


_PATTERNS: Final = MappingProxyType(
    {name: tuple(map(_pattern, templates)) for name, templates in _TEMPLATES.items()}
)
_BEGINS_A_STREAM: Final = 2
"""In the flags of an Ogg page."""


class HeaderFinder:
    """Finds the next header in the bytes of one part of a stream, which come in pieces."""

    def __init__(self, format_name: str) -> None:
        self._patterns = _PATTERNS[format_name]
        self._templates = _TEMPLATES[format_name]
        self._longest = max(map(len, self._templates), default=1)
        self._pages = format_name == "ogg"
        self._seen_page = False

    def find(self, data: bytes | bytearray, begin: int, *, ended: bool) -> tuple[int | None, int]:
        """Where a header begins at or after `begin`, or None; and up to where there is none for sure.

        What is after that may be the beginning of one: it must be given again, with more behind it."""
        found = self._next_stream(data, begin) if self._pages else self._first(data, begin)
        if found is not None:
            return found, found
        if ended:
            return None, len(data)
        for at in range(max(begin, len(data) - self._longest + 1), len(data)):
            if any(_begins(data, at, template) for template in self._templates):
                return None, at
        return None, len(data)

    def _first(self, data: bytes | bytearray, begin: int) -> int | None:
        matches = (pattern.search(data, begin) for pattern in self._patterns)
        return min((match.start() for match in matches if match is not None), default=None)

    def _next_stream(self, data: bytes | bytearray, begin: int) -> int | None:
        """Streams that begin together, such as a picture and its sound, are one recording."""
        for page in self._patterns[0].finditer(data, begin):
            if not data[page.end() - 1] & _BEGINS_A_STREAM:
                self._seen_page = True
            elif self._seen_page:
                return page.start()
        return None


def _begins(data: bytes | bytearray, at: int, template: _Template) -> bool:
    rest = data[at : at + len(template)]
    return len(rest) < len(template) and all(map(frozenset.__contains__, template, rest))


class FilePart(io.RawIOBase):
    """Bytes `[start, end)` of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._size = end - start
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._start + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at


def skip_tags(file: BinaryIO, start: int = 0) -> int:
    """Where the ID3 tags that begin at `start` end: at `start` where there are none."""
    file.seek(start)
    while (length := id3_tag_bytes(file.read(ID3_HEADER_BYTES))) > 0:
        start += length
        file.seek(start)
    return start


def parts_of(file: BinaryIO, format_name: str, start: int) -> Iterator[FilePart]:
    """The recordings in a file, of which the first begins at `start`, in order."""
    size = file.seek(0, io.SEEK_END)
    while start < size:
        end = _end_of_part(file, format_name, start, size)
        yield FilePart(file, start, end)
        start = skip_tags(file, end)


def _end_of_part(file: BinaryIO, format_name: str, start: int, size: int) -> int:
    finder = HeaderFinder(format_name)
    held = bytearray()
    offset, begin = start, 1  # the part's own header is at its first byte
    while True:
        file.seek(offset + len(held))
        block = file.read(_SCAN_BYTES)
        held += block
        found, clear = finder.find(held, begin, ended=not block)
        if found is not None:
            return offset + found
        if not block:
            return size
        del held[:clear]
        offset, begin = offset + clear, 0


class PartReader:
    """The recordings of a stream that is still coming, one after the other; only to be read, by one thread.

    `source(n)` gives up to `n` bytes, waiting for at least one, and none at the end. `read` gives those of
    the part at hand, and none at its end; `next_part` goes on to the next. What stands at the beginning can
    be looked at before `begin`, which names the format.
    """

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._format = ""
        self._finder: HeaderFinder
        self._held = bytearray()
        self._clear = 0  # bytes of `_held` that are this part's for sure
        self._begin = 1
        self._at_header = False
        self._ended = False

    @property
    def at_another(self) -> bool:
        """Whether this part ends where another begins."""
        return self._at_header

    def begin(self, format_name: str) -> None:
        """What comes next is a recording in this format."""
        self._format = format_name
        self._finder = HeaderFinder(format_name)
        self._at_header = False
        self._clear, self._begin = 0, 1
        if self._held:
            self._scan()

    def read(self, size: int = -1) -> bytes:
        size = _SCAN_BYTES if size < 0 else size
        while not self._clear and not self._at_header and not (self._ended and not self._held):
            data = b"" if self._ended else self._source(max(size, 1))
            self._ended = self._ended or not data
            self._held += data
            self._scan()
        data = bytes(self._held[: min(size, self._clear)])
        del self._held[: len(data)]
        self._clear -= len(data)
        return data

    def _scan(self) -> None:
        found, self._clear = self._finder.find(self._held, self._begin, ended=self._ended)
        self._at_header = found is not None
        self._begin = max(0, self._begin - self._clear)

    def next_part(self) -> bool:
        """Pass over what is left of this part; False at the end of the stream."""
        while self.read():
            continue
        if not self._at_header:
            return False
        self.skip_tags()
        self.begin(self._format)
        return bool(self._held)

    def peek(self, size: int) -> bytes:
        """The first bytes of what comes, without taking them."""
        self._hold(size)
        return bytes(self._held[:size])

    def _hold(self, size: int) -> None:
        while len(self._held) < size and not self._ended:
            data = self._source(size - len(self._held))
            self._ended = not data
            self._held += data

    def skip_tags(self) -> None:
        """Drop the ID3 tags that come next."""
        self._hold(ID3_HEADER_BYTES)
        while (length := id3_tag_bytes(bytes(self._held[:ID3_HEADER_BYTES]))) > 0:
            while length > 0 and (self._held or not self._ended):
                self._hold(1)
                dropped = min(length, len(self._held))
                del self._held[:dropped]
                length -= dropped
            self._hold(ID3_HEADER_BYTES)
