"""Streams of answers that are never silent for long: a caller learns of a replica that hangs by its silence.

How long a call waits for its turn says nothing: a machine under load is slow, not dead. So a replica says
every `BEAT_S` seconds that it still has the call, and the caller takes `SILENCE_S` seconds without a word as
the loss of the replica. What hangs inside a replica, while its loop goes on, the replica notices itself
(`core/watch.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import TypeVar

from serve_app.service.ports import ReplicaLost

BEAT_S = 2.0
SILENCE_S = 20.0
"""Ten beats: a starved loop of a busy machine is late by one or two."""

Item = TypeVar("Item")


async def with_beats(
    answers: AsyncGenerator[Item, None], beat_s: float = BEAT_S
) -> AsyncIterator[Item | None]:
    """`answers`, and None whenever there was none for `beat_s` seconds."""
    following: asyncio.Future[Item] | None = None
    try:
        while True:
            if following is None:
                following = asyncio.ensure_future(anext(answers))
            done, _ = await asyncio.wait((following,), timeout=beat_s)
            if not done:
                yield None
                continue
            try:
                item = following.result()
            except StopAsyncIteration:
                return
            finally:
                following = None
            yield item
    finally:
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await following
        await answers.aclose()


async def without_beats(
    told: AsyncIterator[Item | None], what: str, silence_s: float = SILENCE_S
) -> AsyncIterator[Item]:
    """`told` without its Nones. Raises `ReplicaLost` after `silence_s` seconds without either; `what` is
    the replica, in words."""
    while True:
        try:
            async with asyncio.timeout(silence_s):
                item = await anext(told)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ReplicaLost(f"{what} has said nothing for {silence_s:g} s") from None
        if item is not None:
            yield item
