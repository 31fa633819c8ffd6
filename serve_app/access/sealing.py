"""Encryption of what is kept at rest: with the storage key lost or replaced, all of it is unreadable.

A sealed file is a header (magic, 16 random bytes) and then chunks, each sealed with AES-256-GCM. The file's
own key comes from the storage key, the random bytes and the file's `name` (HKDF, RFC 5869), so that no two
files share one and none can stand in for another. A chunk's nonce is its number and whether it is the last:
chunks that were reordered, left out, repeated or cut off do not open. (The STREAM construction: Hoang and
others, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015, section 7.)
Any chunk opens by itself, so a decoder may seek.
"""

from __future__ import annotations

import io
import os
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MIN_KEY_CHARS: Final = 32
"""Of a storage key: it is taken as random, not as a password that would have to be stretched."""
CHUNK_BYTES: Final = 64 * 1024
TAG_BYTES: Final = 16
MAGIC: Final = b"SOTTO-SEALED-1\n\0"
SALT_BYTES: Final = 16
HEADER_BYTES: Final = len(MAGIC) + SALT_BYTES
_SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES


class Unreadable(Exception):
    """Sealed with another key, for another name, or changed since."""


class Seal:
    """Seals with one storage key; with None it passes data through as it is."""

    def __init__(self, key: str | None) -> None:
        """Raises `ValueError` for a key shorter than `MIN_KEY_CHARS`."""
        if key is not None and len(key) < MIN_KEY_CHARS:
            raise ValueError(f"a storage key has at least {MIN_KEY_CHARS} characters")
        self._key = None if key is None else key.encode()

    @property
    def is_on(self) -> bool:
        return self._key is not None

    def write(self, source: BinaryIO, target: BinaryIO, name: str) -> int:
        """Copy the rest of `source` to `target`, a chunk at a time; the number of bytes read. Blocking."""
        if self._key is None:
            return _copy(source, target)
        salt = os.urandom(SALT_BYTES)
        cipher = self._cipher(salt, name)
        target.write(MAGIC + salt)
        num_bytes = index = 0
        chunk = source.read(CHUNK_BYTES)
        while True:
            following = source.read(CHUNK_BYTES) if len(chunk) == CHUNK_BYTES else b""
            target.write(cipher.encrypt(_nonce(index, is_last=not following), chunk, None))
            num_bytes += len(chunk)
            if not following:
                return num_bytes
            chunk, index = following, index + 1

    def reader(self, file: BinaryIO, name: str) -> BinaryIO:
        """`file` as it was before it was written; closing it closes `file`. Raises `Unreadable`: at once for
        what was never sealed or was cut off, and when a changed chunk is read."""
        if self._key is None:
            return file
        header = file.read(HEADER_BYTES)
        if len(header) != HEADER_BYTES or not header.startswith(MAGIC):
            raise Unreadable("not sealed")
        opened = _SealedFile(file, self._cipher(header[len(MAGIC) :], name))
        return io.BufferedReader(opened, CHUNK_BYTES)

    def seal(self, data: bytes, name: str) -> bytes:
        """Small data, whole."""
        sealed = io.BytesIO()
        self.write(io.BytesIO(data), sealed, name)
        return sealed.getvalue()

    def unseal(self, data: bytes, name: str) -> bytes:
        """The inverse of `seal`. Raises `Unreadable`."""
        with self.reader(io.BytesIO(data), name) as file:
            return file.read()

    def _cipher(self, salt: bytes, name: str) -> AESGCM:
        assert self._key is not None
        return AESGCM(HKDF(SHA256(), 32, salt, b"sotto storage " + name.encode()).derive(self._key))


class _SealedFile(io.RawIOBase):
    """The plain bytes of a sealed file; holds one opened chunk."""

    def __init__(self, file: BinaryIO, cipher: AESGCM) -> None:
        self._file = file
        self._cipher = cipher
        sealed_bytes = file.seek(0, os.SEEK_END) - HEADER_BYTES
        self._num_chunks = max(1, -(-sealed_bytes // _SEALED_CHUNK_BYTES))
        self._size = sealed_bytes - self._num_chunks * TAG_BYTES
        self._position = 0
        self._index = -1
        self._chunk = b""
        if self._size < 0:
            raise Unreadable("cut off")
        self._open(self._num_chunks - 1)  # what was cut off shows here, before any of it is used

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        index, start = divmod(self._position, CHUNK_BYTES)
        self._open(index)
        part = self._chunk[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _open(self, index: int) -> None:
        if index == self._index:
            return
        self._file.seek(HEADER_BYTES + index * _SEALED_CHUNK_BYTES)
        sealed = self._file.read(_SEALED_CHUNK_BYTES)
        try:
            nonce = _nonce(index, is_last=index == self._num_chunks - 1)
            self._chunk, self._index = self._cipher.decrypt(nonce, sealed, None), index
        except InvalidTag:
            raise Unreadable("another key, or changed data") from None


def _nonce(index: int, *, is_last: bool) -> bytes:
    """12 bytes: never twice with one file's key."""
    return index.to_bytes(11, "big") + bytes([is_last])


def _copy(source: BinaryIO, target: BinaryIO) -> int:
    num_bytes = 0
    while chunk := source.read(CHUNK_BYTES):
        target.write(chunk)
        num_bytes += len(chunk)
    return num_bytes
