"""Whisper in torch: NVIDIA cards, Apple silicon and CPUs, with attention while decoding.

Importing this module is what imports torch. On a CPU calls run side by side; on other devices one at a
time, behind a lock, since they share a stream. The CUDA path was written without a card at hand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import structlog
import torch
from torch import Tensor

from serve_app.asr.engines.base import AUTO, DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.drafts import MAX_GUESS_TOKENS, needs_weights, search_drafted, uses_drafts
from serve_app.asr.engines.lifting import SteppedTables, search_lifted, uses_terms
from serve_app.asr.engines.search import num_candidates, search, wants_attention
from serve_app.asr.engines.torch_decoder import (
    EagerRunner,
    Runner,
    TorchBatch,
    TorchDraftDecoder,
    TorchStepDecoder,
)
from serve_app.asr.engines.torch_graphs import GraphArena, StaticRunner
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.engines.whisper_engine import States, WhisperEngine, choose_type
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import ModelToLoad
from serve_app.core.errors import ModelUnavailable
from serve_app.models.footprint import MAX_TEXT_POSITIONS

_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_TYPES_BY_DEVICE = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("bfloat16", "float16", "float32"),
    "mps": ("float16", "float32"),
}
"""The first is the default."""

_log = structlog.get_logger(__name__)
_threads_lock = threading.Lock()
_num_threads: int | None = None


def load(model: ModelToLoad) -> TorchEngine:
    """The factory that `STT_ENGINE=torch` names."""
    return TorchEngine(
        model.folder,
        device=model.device,
        compute_type=model.compute_type,
        threads=model.threads_per_worker,
    )


class TorchEngine(WhisperEngine):
    """One Whisper model."""

    _model: TorchWhisper

    def __init__(
        self, path: Path, *, device: str = "auto", compute_type: str = "auto", threads: int = 1
    ) -> None:
        """Load the model. `threads` of a CPU are the process's: the first engine's number counts.

        Raises `ModelUnavailable` for a folder, device or type that cannot be used.
        """
        device = choose_device(device)
        compute_type = choose_compute_type(compute_type, device)
        weights = read_weights(path)
        super().__init__(
            "torch",
            path,
            weights.shape,
            device=device,
            compute_type=compute_type,
            compute_types=_TYPES_BY_DEVICE[device],
            drafts=True,
        )
        if device == "cpu":
            _set_threads(threads)
        try:
            self._model = TorchWhisper(weights, torch.device(device), _TYPES[compute_type])
        except (RuntimeError, MemoryError) as error:
            raise ModelUnavailable(f"the model in {path} cannot be loaded: {error}") from error
        self._alone: AbstractContextManager[object] = nullcontext() if device == "cpu" else threading.Lock()
        self._arena = GraphArena(self._model) if device == "cuda" else None

    @contextmanager
    def _running(self) -> Iterator[None]:
        with self._alone, torch.inference_mode():
            yield

    def _search(self, states: States, prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        start, end, no_speech, _ = self._tokens
        if uses_terms(prompts, options):

            def decoder(items: Sequence[int], given: Sequence[Prompt]) -> TorchStepDecoder:
                rows = states if len(items) == states.batch_size else states.take(items)
                runner = self._runner(rows, given, replace(options, alignment=False))
                batch = TorchBatch(self._model, runner, given, options, start=start, no_speech=no_speech)
                return TorchStepDecoder(batch)

            return search_lifted(SteppedTables(decoder, prompts), prompts, options, start=start, end=end)
        runner = self._runner(states, prompts, options)
        batch = TorchBatch(self._model, runner, prompts, options, start=start, no_speech=no_speech)
        if uses_drafts(prompts, options):
            drafting = TorchDraftDecoder(batch, end=end)
            return search_drafted(drafting, prompts, options, start=start, end=end)
        return search(TorchStepDecoder(batch), prompts, options, end=end)

    def _runner(self, states: States, prompts: Sequence[Prompt], options: DecodeOptions) -> Runner:
        lengths = [len(prompt.start) + len(prompt.forced) for prompt in prompts]
        num_padding = [max(lengths) - length for length in lengths]
        attention, audio = wants_attention(prompts, options), states.project()
        max_tokens = min(MAX_TEXT_POSITIONS, max(lengths) + options.max_new_tokens)
        if uses_drafts(prompts, options):
            attention = needs_weights(prompts, options)
            # What was guessed stands behind the longest row until it was compared.
            max_tokens += MAX_GUESS_TOKENS
        if self._arena is not None:
            beam_size = num_candidates(options) // 2 or 1
            return StaticRunner(
                self._arena, audio, num_padding, max_tokens, beam_size=beam_size, attention=attention
            )
        return EagerRunner(self._model, audio, num_padding, max_tokens, attention=attention)

    def _first_logits(self, states: States, ids: Sequence[int]) -> FloatArray:
        no_padding = [0] * states.batch_size
        runner = EagerRunner(self._model, states.project(), no_padding, 1, attention=False)
        starts = torch.full((len(no_padding), 1), self._tokens.start, device=self._model.device)
        logits, _ = runner.read(starts)
        return _numpy(logits[:, 0, list(ids)])

    def _read(
        self, states: States, rows: list[list[int]], first: int, texts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        runner = EagerRunner(self._model, states.project(), [0] * len(rows), len(rows[0]), attention=True)
        hidden, scores = runner.prefill(torch.tensor(rows, device=self._model.device))
        assert scores is not None
        for row, text in enumerate(texts):
            logits = self._model.logits(hidden[row, first : first + len(text)])[:, : self._tokens.end]
            ids = torch.tensor(list(text), dtype=torch.int64, device=self._model.device)
            probs = logits.softmax(dim=-1).gather(1, ids[:, None])[:, 0]
            yield _numpy(probs), _numpy(scores[row])


def _numpy(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.cpu().numpy()
    return array


def choose_compute_type(wanted: str, device: str) -> str:
    """The device's default unless asked otherwise; a type that torch does not do here becomes the default."""
    return choose_type(wanted, _TYPES_BY_DEVICE[device], device)


def choose_device(wanted: str) -> str:
    """ "cuda", "mps" or "cpu", the first that is there for "auto". Raises `ModelUnavailable`."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted in AUTO:
        return next(device for device, usable in there.items() if usable)
    if wanted not in there:
        raise ModelUnavailable(f"unknown device {wanted!r}, expected auto, cpu, cuda or mps")
    if not there[wanted]:
        raise ModelUnavailable(f"device {wanted} was asked for and torch cannot use one here")
    return wanted


def _set_threads(threads: int) -> None:
    """Torch has one number for the whole process, and changing it under a running call is not safe."""
    global _num_threads
    with _threads_lock:
        if _num_threads is None:
            _num_threads = max(1, threads)
            torch.set_num_threads(_num_threads)
        elif _num_threads != threads:
            _log.warning("torch's threads are already set", wanted=threads, used=_num_threads)
