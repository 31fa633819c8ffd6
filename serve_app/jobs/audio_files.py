"""The audio of jobs that have not ended: one file each, in a folder or a bucket (fsspec)."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from serve_app.jobs.sealed_store import Seal

COPY_BYTES: Final = 1024 * 1024
SPOOL_BYTES: Final = 8 * 1024 * 1024


class AudioFiles(Protocol):
    """Calls block. Names are job ids."""

    def put(self, name: str, file: BinaryIO) -> str:
        """Keep what `file` has from here on; its SHA-256 in hexadecimal."""

    def open(self, name: str) -> BinaryIO:
        """A file that can seek. Raises `FileNotFoundError`."""

    def delete(self, name: str) -> None:
        """Nothing happens where it is gone."""


class StoredAudio:
    """`AudioFiles` below `root`: a folder, or an address that fsspec knows, as s3://bucket/folder.

    `seal` encrypts them; None: they are kept as they come.
    """

    def __init__(self, root: str, seal: Seal | None = None) -> None:
        self._root = root
        self._seal = seal
        self._opened: tuple[Any, str] | None = None

    def _place(self, name: str) -> tuple[Any, str]:
        if self._opened is None:
            files, folder = fsspec.core.url_to_fs(self._root)
            if _is_local(files):
                Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            else:
                files.makedirs(folder, exist_ok=True)
            self._opened = files, folder
        files, folder = self._opened
        return files, f"{folder.rstrip('/')}/{name}"

    def put(self, name: str, file: BinaryIO) -> str:
        files, path = self._place(name)
        source = _Hashed(file)
        try:
            with files.open(path, "wb") as kept:
                if self._seal is None:
                    shutil.copyfileobj(source, kept, COPY_BYTES)
                else:
                    self._seal.write(cast(BinaryIO, source), kept, f"audio {name}")
        except BaseException:
            self.delete(name)
            raise
        return source.digest.hexdigest()

    def open(self, name: str) -> BinaryIO:
        file = self._opened_as_it_is(name)
        if self._seal is None:
            return file
        try:
            return self._seal.reader(file, f"audio {name}")
        except BaseException:
            file.close()
            raise

    def _opened_as_it_is(self, name: str) -> BinaryIO:
        files, path = self._place(name)
        if _is_local(files):
            return cast(BinaryIO, files.open(path, "rb"))
        # A decoder seeks back and forth: over a network it would ask for each piece again.
        copy = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - the caller closes it
        try:
            with files.open(path, "rb") as kept:
                shutil.copyfileobj(kept, copy, COPY_BYTES)
            copy.seek(0)
        except BaseException:
            copy.close()
            raise
        return cast(BinaryIO, copy)

    def delete(self, name: str) -> None:
        files, path = self._place(name)
        with suppress(FileNotFoundError):
            files.rm_file(path)


def _is_local(files: Any) -> bool:
    return isinstance(files, LocalFileSystem)


class _Hashed:
    """A file that is read once, and the hash of what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data
