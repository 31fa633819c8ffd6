"""No core dumps of this process: the memory of a recogniser is what was just said."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""`man 2 prctl`. What is not dumpable cannot be attached to by a debugger of the same user either."""


def forbid_core_dumps() -> None:
    """For this process for good, and files of them for those that it starts.

    The limit alone is not enough where the kernel pipes dumps to a program (systemd-coredump, apport), which
    is started for processes of any limit; and the flag alone ends with the next `exec`.
    """
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
