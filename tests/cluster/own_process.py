"""The service in a process of its own: Ray and Serve read their environment when they are imported, and other
tests of the same run have imported them by then."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.service import ServiceUnderTest, service_under_test

STOP_TIMEOUT_S = 300


def _serve(settings: Mapping[str, Any], pipe: Connection) -> None:
    """Serve until the other end hangs up."""
    with service_under_test(None, settings=settings) as running:
        pipe.send(running)
        pipe.poll(None)


@contextmanager
def service_in_own_process(settings: Mapping[str, Any]) -> Iterator[ServiceUnderTest]:
    """Yield the CPU graph with these settings. Raises `RuntimeError` where it does not come up."""
    spawning = multiprocessing.get_context("spawn")
    ours, its = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(settings, its))
    process.start()
    its.close()
    try:
        yield ours.recv()
    except EOFError:
        raise RuntimeError("the service did not start: its process says above why") from None
    finally:
        ours.close()
        process.join(STOP_TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()
            raise RuntimeError(f"the service did not stop within {STOP_TIMEOUT_S} s")
