"""A batch that fails, taken apart: one bad item fails alone, and memory that ran out is met with smaller
batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from serve_app.asr.out_of_memory import BatchCap, is_out_of_memory, release_unused

MODEL_ERRORS = (RuntimeError, ValueError, MemoryError)
"""What an engine raises for a batch as a whole; memory that runs out is among them."""

_log = structlog.get_logger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


def decode_isolated(
    items: Sequence[Item],
    decode: Callable[[Sequence[Item]], list[Result]],
    fail: Callable[[Item, bool], Result],
    cap: BatchCap,
) -> list[Result]:
    """One result per item, in order; `fail(item, ran_out)` makes those of items that `decode` fails on alone.

    A batch is no larger than `cap` allows. One that runs out of memory lowers the cap and is tried again in
    halves, a single item once more as it is; one that fails otherwise is tried again item by item.
    """
    size = cap.size(len(items))
    if size < len(items):
        return _in_parts(items, size, decode, fail, cap)
    try:
        return decode(items)
    except MODEL_ERRORS as error:
        ran_out, kind = is_out_of_memory(error), type(error).__name__
    # Only here is the batch's memory free again: the error's traceback held it.
    if ran_out:
        cap.failed(len(items))
        release_unused()
        _log.warning("out of memory", num_items=len(items))
        if len(items) > 1:
            return _in_parts(items, -(-len(items) // 2), decode, fail, cap)
        return _once_more(items, decode, fail)
    if len(items) > 1:
        _log.warning("batch failed, its items are retried singly", num_items=len(items))
        return _in_parts(items, 1, decode, fail, cap)
    _log.error("decode failed", error=kind)
    return [fail(items[0], False)]


def _in_parts(
    items: Sequence[Item],
    size: int,
    decode: Callable[[Sequence[Item]], list[Result]],
    fail: Callable[[Item, bool], Result],
    cap: BatchCap,
) -> list[Result]:
    parts = [items[first : first + size] for first in range(0, len(items), size)]
    return [result for part in parts for result in decode_isolated(part, decode, fail, cap)]


def _once_more(
    items: Sequence[Item],
    decode: Callable[[Sequence[Item]], list[Result]],
    fail: Callable[[Item, bool], Result],
) -> list[Result]:
    """One item that ran out of memory alone: others may have held it a moment ago."""
    try:
        return decode(items)
    except MODEL_ERRORS as error:
        ran_out, kind = is_out_of_memory(error), type(error).__name__
    _log.error("decode failed", error=kind, out_of_memory=ran_out)
    return [fail(items[0], ran_out)]
