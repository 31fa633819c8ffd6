"""What a replica raises, without its message: in strict privacy nothing that an engine quotes reaches Ray.

Ray writes a failed call's exception and traceback as text into the answer, and Serve may log that text where
it arrives, in a process whose own logs cannot tell it from any other.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from serve_app.core.errors import SottoError
from serve_app.core.sealing import seal


def seal_calls(replica: object) -> None:
    """Replace the public coroutines and async generators of `replica` by ones whose exceptions are sealed,
    but for our own errors, which say what clients may read."""
    for name, method in inspect.getmembers(replica, inspect.ismethod):
        if name.startswith("_"):
            continue
        if inspect.isasyncgenfunction(method):
            setattr(replica, name, _sealed_stream(method))
        elif inspect.iscoroutinefunction(method):
            setattr(replica, name, _sealed_call(method))


def _sealed_call(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except SottoError:
            raise
        except Exception as error:
            raise seal(error) from None

    return call


def _sealed_stream(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def stream(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        try:
            async for item in method(*args, **kwargs):
                yield item
        except SottoError:
            raise
        except Exception as error:
            raise seal(error) from None

    return stream
