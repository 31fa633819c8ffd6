"""`asyncio.timeout`, also before Python 3.11: `wait_for` of those versions may lose a cancellation."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

__all__ = ["timeout"]
