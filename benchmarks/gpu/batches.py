"""One engine with one model, batch by batch: how long a batch takes, and what it holds."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import psutil

from serve_app.asr.config import GPU_BUCKET_FRAMES
from serve_app.asr.engines.base import DecodeOptions, Engine, Prompt
from serve_app.asr.engines.choice import load_engine
from serve_app.asr.failed_batches import MODEL_ERRORS, is_out_of_memory, release_unused
from serve_app.asr.features import FRAMES_PER_S, MAX_FRAMES, FloatArray
from serve_app.asr.ports import ModelToLoad
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.windows import WindowPolicy, plan_window
from serve_app.assembly.recognisers import FINAL_TAIL_S
from serve_app.capacity.machine import read_gpus, visible_gpus
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import Task
from serve_app.core.samples import SAMPLE_RATE_HZ

TOKENS_PER_S = 4.0
"""What people say: some 2.5 words a second of 1.4 tokens each, and punctuation."""
POLICY = WindowPolicy(tail_s=FINAL_TAIL_S, bucket_frames=GPU_BUCKET_FRAMES)
"""With the tail and the steps in length that finals have on a card."""


@dataclass(frozen=True, slots=True)
class Point:
    """Batches of `batch` windows with `audio_s` of speech each. `busy_s`: each repetition's seconds, of which
    encoding took `encode_s` (median); `drafted_s` (median) with the text as its own draft, where the engine
    checks drafts. `memory_bytes`: the most that was seen in use while one ran, on the
    card or, on a CPU, by the process. `failure` says why there are no times."""

    batch: int
    audio_s: float
    busy_s: tuple[float, ...] = ()
    encode_s: float = 0.0
    drafted_s: float | None = None
    memory_bytes: int | None = None
    failure: str = ""

    @property
    def latency_s(self) -> float:
        return median(self.busy_s)

    @property
    def streams(self) -> float:
        """People who speak without a pause whose speech it decodes once, in real time."""
        return self.batch * self.audio_s / self.latency_s


@dataclass(frozen=True, slots=True)
class Curve:
    """One engine, model and precision; `failure` where it could not be loaded as asked."""

    engine: str
    model: str
    compute_type: str
    points: tuple[Point, ...] = ()
    load_s: float = 0.0
    model_bytes: int | None = None
    failure: str = ""

    @property
    def measured(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if not point.failure)

    @property
    def best_streams(self) -> float:
        return max((point.streams for point in self.measured), default=0.0)


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What is measured: windows by seconds of speech, batches in rising order, timed `repeats` times. A
    window's batches stop growing once one takes longer than `max_latency_s`."""

    windows_s: Sequence[float] = (3.0, 8.0)
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)
    repeats: int = 5
    max_latency_s: float = 5.0
    device: str = "cuda"
    threads: int = 1


def measure_curve(engine: str, model: str, folder: Path, compute_type: str, plan: BatchPlan) -> Curve:
    """Load the model and time its batches. Never raises for what a model or a card cannot do."""
    before = memory_in_use(plan.device)
    began = perf_counter()
    try:
        loaded = load_engine(
            engine,
            ModelToLoad(
                model,
                folder,
                device=plan.device,
                compute_type=compute_type,
                threads_per_worker=plan.threads,
            ),
        )
        load_s = perf_counter() - began
        if loaded.capabilities.compute_type != compute_type:
            return Curve(engine, model, compute_type, failure="this device does not compute in it")
        bench = _Bench(loaded, folder, plan)
    except (ModelUnavailable, *MODEL_ERRORS) as error:
        return Curve(engine, model, compute_type, failure=_said(error))
    after = memory_in_use(plan.device)
    held = None if before is None or after is None else max(0, after - before)
    points = tuple(point for window_s in plan.windows_s for point in bench.window(window_s))
    return Curve(engine, model, compute_type, points, load_s, held)


class _Bench:
    def __init__(self, engine: Engine, folder: Path, plan: BatchPlan) -> None:
        self._engine = engine
        self._plan = plan
        shape = engine.dimensions
        self._num_mels = shape.num_mels
        words = Vocabulary(folder / "tokenizer.json", multilingual=shape.multilingual)
        self._start = (*words.start_sequence("en", Task.TRANSCRIBE), words.no_timestamps)
        # The end token never comes, so that every item takes as many steps as speech would.
        self._suppressed = (words.end, *words.timestamp_ids(shape.vocabulary_size))
        self._silence = engine.encode(self._features(1, MAX_FRAMES))

    def window(self, audio_s: float) -> Iterator[Point]:
        """Batches of windows with this much speech, until one is too slow or does not fit."""
        for batch in self._plan.batches:
            failure = ""
            try:
                point = self._point(batch, audio_s)
            except MODEL_ERRORS as error:
                failure = _said(error)
            if failure:  # only now is what the error held on to free
                release_unused()
                yield Point(batch, audio_s, failure=failure)
                return
            yield point
            if point.latency_s > self._plan.max_latency_s:
                return

    def _point(self, batch: int, audio_s: float) -> Point:
        window = plan_window(round(audio_s * SAMPLE_RATE_HZ), "en", POLICY)
        features = self._features(batch, window.num_frames)
        num_states = max(1, round(audio_s * FRAMES_PER_S / 2))
        prompts = [Prompt(self._start, num_states)] * batch
        options = DecodeOptions(
            max_new_tokens=max(1, round(TOKENS_PER_S * audio_s)), suppressed=self._suppressed
        )

        def decode(prompts: list[Prompt] = prompts) -> tuple[float, float, tuple[int, ...]]:
            """Seconds of the whole and of the encoder, and the first item's tokens."""
            began = perf_counter()
            states = self._engine.encode(features)
            encoded = perf_counter()
            spliced = self._engine.splice(states, self._silence, window.num_states)
            found = self._engine.generate(spliced, prompts, options)
            ended = perf_counter()
            if any(len(hypothesis.ids) != options.max_new_tokens for hypothesis in found):
                raise RuntimeError("the number of tokens is not what was asked for")
            return ended - began, encoded - began, found[0].ids

        _, _, ids = decode()
        # Memory is watched in a run of its own: asking takes time from the others.
        memory_bytes = peak_memory(decode, self._plan.device)
        times = [decode() for _ in range(self._plan.repeats)]
        drafted_s = None
        if self._engine.capabilities.drafts:
            drafted = [replace(prompt, draft=ids) for prompt in prompts]
            decode(drafted)
            drafted_s = median(decode(drafted)[0] for _ in range(self._plan.repeats))
        return Point(
            batch,
            audio_s,
            tuple(busy for busy, _, _ in times),
            median(encoder for _, encoder, _ in times),
            drafted_s,
            memory_bytes,
        )

    def _features(self, batch: int, num_frames: int) -> FloatArray:
        rng = np.random.default_rng(0)
        one = rng.standard_normal((1, self._num_mels, num_frames), dtype=np.float32)
        return np.ascontiguousarray(np.repeat(0.5 * one, batch, axis=0))


def memory_in_use(device: str) -> int | None:
    """Of the first visible card (None where it cannot be read); on a CPU of this process."""
    if device == "cpu":
        return int(psutil.Process(os.getpid()).memory_info().rss)
    gpus = visible_gpus(read_gpus())
    return gpus[0].memory_used_bytes if gpus else None


def peak_memory(work: Callable[[], object], device: str, every_s: float = 0.005) -> int | None:
    """The most memory that was seen in use while `work` ran; None where it cannot be read."""
    seen = [memory_in_use(device)]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            seen.append(memory_in_use(device))

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        work()
    finally:
        stop.set()
        watcher.join()
    return max((used for used in [*seen, memory_in_use(device)] if used is not None), default=None)


def _said(error: Exception) -> str:
    if is_out_of_memory(error):
        return "out of memory"
    return f"{type(error).__name__}: {str(error)[:200]}"
