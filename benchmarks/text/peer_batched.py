"""faster-whisper's own batched pipeline, in a process of its own, as the peer of our uploads."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_pipeline: Any = None


@dataclass(frozen=True, slots=True)
class PeerOptions:
    """`model_path` is a CTranslate2 folder; `num_threads` are CTranslate2's for one batch."""

    model_path: Path
    num_threads: int
    beam_size: int
    language: str
    compute_type: str = "int8"
    device: str = "cpu"
    batch_size: int = 8


def _load(options: PeerOptions) -> None:
    global _pipeline
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    model = WhisperModel(
        str(options.model_path),
        device=options.device,
        compute_type=options.compute_type,
        cpu_threads=options.num_threads,
        local_files_only=True,
    )
    _pipeline = BatchedInferencePipeline(model)


def _transcribe(path: Path, options: PeerOptions) -> tuple[str, float]:
    started = time.perf_counter()
    segments, _ = _pipeline.transcribe(
        str(path),
        language=options.language,
        beam_size=options.beam_size,
        batch_size=options.batch_size,
        without_timestamps=True,
    )
    text = " ".join(segment.text.strip() for segment in segments)
    return text, time.perf_counter() - started


class BatchedPeer:
    """The loaded pipeline; `transcribe` gives the text and the seconds, decoding the file included."""

    def __init__(self, pool: ProcessPoolExecutor, options: PeerOptions) -> None:
        self._pool = pool
        self._options = options

    def transcribe(self, path: Path) -> tuple[str, float]:
        return self._pool.submit(_transcribe, path, self._options).result()


@contextmanager
def batched_peer(options: PeerOptions) -> Iterator[BatchedPeer]:
    """Start the peer with the environment as it is now: call it before Ray changes that."""
    pool = ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_load,
        initargs=(options,),
    )
    try:
        pool.submit(time.monotonic).result()
        yield BatchedPeer(pool, options)
    finally:
        pool.shutdown(cancel_futures=True)
