"""Uploads that stay in memory: how much of it all of them may take at once.

In strict privacy no upload is written to a file, not even an unnamed one: its blocks stay on the disk when it
is gone. A file system in memory would take the same memory, and need a mount; what is encrypted in a file
would have to be decrypted for the decoder, block by block. So uploads are plain buffers, with a bound for all
of a process.
"""

from __future__ import annotations

from typing import Final

from serve_app.core.errors import QueueFull

UPLOAD_MEMORY_BYTES: Final = 1024 * 1024 * 1024
"""Of all uploads of one process; more where the largest upload that is allowed is larger."""


class UploadMemory:
    """A number of bytes, shared by uploads as they come in."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0


class HeldMemory:
    """What one upload holds of it."""

    def __init__(self, memory: UploadMemory) -> None:
        self._memory = memory
        self._num_bytes = 0

    def take(self, num_bytes: int) -> None:
        """Raises `QueueFull` where so much is not left; what was taken before stays taken."""
        if self._memory.num_bytes + num_bytes > self._memory.max_bytes:
            raise QueueFull("no memory is left for this upload: other uploads hold it")
        self._memory.num_bytes += num_bytes
        self._num_bytes += num_bytes

    def release(self) -> None:
        """May be called twice."""
        self._memory.num_bytes -= self._num_bytes
        self._num_bytes = 0
