"""Whisper in torch: NVIDIA cards, Apple silicon and CPUs, with attention while decoding.

Importing this module is what imports torch. On a CPU calls run side by side; on other devices one at a
time, behind a lock, since they share a stream. The CUDA path was written without a card at hand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import Tensor

from serve_app.asr.engines.alignment import align_tokens
from serve_app.asr.engines.base import (
    Alignment,
    Capabilities,
    DecodeOptions,
    Dimensions,
    Hypothesis,
    Prompt,
)
from serve_app.asr.engines.inputs import check_features, check_ids, rows_to_align, special_tokens
from serve_app.asr.engines.lifting import SteppedTables, search_lifted, uses_terms
from serve_app.asr.engines.search import check_prompts, num_candidates, search, wants_attention
from serve_app.asr.engines.torch_decoder import EagerRunner, Runner, TorchStepDecoder
from serve_app.asr.engines.torch_graphs import GraphArena, StaticRunner
from serve_app.asr.engines.torch_model import TorchWhisper
from serve_app.asr.engines.torch_states import TorchStates
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import ModelToLoad
from serve_app.core.errors import ModelUnavailable
from serve_app.models.footprint import MAX_TEXT_POSITIONS

MAX_BEAM_SIZE = 20
_AUTO = frozenset({"", "auto", "default"})
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


class TorchEngine:
    """One Whisper model of a CTranslate2 (float16) or Hugging Face folder."""

    def __init__(
        self, path: Path, *, device: str = "auto", compute_type: str = "auto", threads: int = 1
    ) -> None:
        """Load the model. `threads` of a CPU are the process's: the first engine's number counts.

        Raises `ModelUnavailable` for a folder, device or type that cannot be used.
        """
        device = choose_device(device)
        compute_type = choose_compute_type(compute_type, device)
        weights = read_weights(path)
        shape = weights.shape
        self._shape = shape
        self._tokens = special_tokens(path, shape)
        if device == "cpu":
            _set_threads(threads)
        try:
            self._model = TorchWhisper(weights, torch.device(device), _TYPES[compute_type])
        except (RuntimeError, MemoryError) as error:
            raise ModelUnavailable(f"the model in {path} cannot be loaded: {error}") from error
        self._alone: AbstractContextManager[object] = nullcontext() if device == "cpu" else threading.Lock()
        self._arena = GraphArena(self._model) if device == "cuda" else None
        self._dimensions = Dimensions(shape.num_mels, shape.vocabulary_size, shape.multilingual)
        self._capabilities = Capabilities(
            engine="torch",
            device=device,
            compute_type=compute_type,
            compute_types=tuple(sorted(_TYPES_BY_DEVICE[device])),
            batching=True,
            attention=True,
            mixed_prompts=True,
            short_windows=True,
            max_beam_size=MAX_BEAM_SIZE,
            terms=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def dimensions(self) -> Dimensions:
        return self._dimensions

    def encode(self, features: FloatArray) -> TorchStates:
        """Raises ValueError for features of another shape."""
        check_features(features, self._shape)
        with self._running():
            return TorchStates(self._model.encode(torch.from_numpy(np.ascontiguousarray(features))))

    def num_states(self, states: TorchStates) -> int:
        return states.num_states

    def splice(self, states: TorchStates, silence: TorchStates, num_states: int) -> TorchStates:
        return states.splice(silence, num_states)

    def take(self, states: TorchStates, rows: Sequence[int]) -> TorchStates:
        with self._running():
            return states.take(rows)

    def generate(
        self, states: TorchStates, prompts: Sequence[Prompt], options: DecodeOptions
    ) -> list[Hypothesis]:
        """Raises ValueError for prompts that leave no room for an answer, or are not one for each item."""
        if len(prompts) != states.batch_size:
            raise ValueError(f"{len(prompts)} prompts for {states.batch_size} items")
        check_prompts(prompts)
        for prompt in prompts:
            check_ids((*prompt.start, *prompt.forced), self._shape)
        if not prompts:
            return []

        def decoder(items: Sequence[int], given: Sequence[Prompt]) -> TorchStepDecoder:
            rows = states if len(items) == states.batch_size else states.take(items)
            return TorchStepDecoder(
                self._model,
                self._runner(rows, given, options),
                given,
                options,
                start=self._tokens.start,
                no_speech=self._tokens.no_speech,
            )

        with self._running():
            if uses_terms(prompts, options):
                return search_lifted(SteppedTables(decoder, prompts), prompts, options, end=self._tokens.end)
            return search(decoder(range(len(prompts)), prompts), prompts, options, end=self._tokens.end)

    @contextmanager
    def _running(self) -> Iterator[None]:
        with self._alone, torch.inference_mode():
            yield

    def _runner(self, states: TorchStates, prompts: Sequence[Prompt], options: DecodeOptions) -> Runner:
        lengths = [len(prompt.start) + len(prompt.forced) for prompt in prompts]
        num_padding = [max(lengths) - length for length in lengths]
        attention = wants_attention(prompts, options)
        audio = states.project(self._model)
        max_tokens = min(MAX_TEXT_POSITIONS, max(lengths) + options.max_new_tokens)
        if self._arena is not None:
            beam_size = num_candidates(options) // 2 or 1
            return StaticRunner(
                self._arena, audio, num_padding, max_tokens, beam_size=beam_size, attention=attention
            )
        return EagerRunner(self._model, audio, num_padding, max_tokens, attention=attention)

    def detect_language(self, states: TorchStates, language_ids: Mapping[str, int]) -> list[dict[str, float]]:
        with self._running():
            audio = states.project(self._model)
            runner = EagerRunner(self._model, audio, [0] * states.batch_size, 1, attention=False)
            start = torch.full((states.batch_size,), self._tokens.start, device=self._model.device)
            logits, _ = runner.step(start)
            ids = torch.tensor(list(language_ids.values()), device=self._model.device)
            found = logits[:, ids].softmax(dim=-1).cpu().numpy()
        return [dict(zip(language_ids, map(float, row), strict=True)) for row in found]

    def align(
        self,
        states: TorchStates,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        num_states: Sequence[int],
    ) -> list[Alignment]:
        """Raises ValueError for texts that are too long, or are not one for each item."""
        rows = rows_to_align(
            start, texts, num_states, num_items=states.batch_size, tokens=self._tokens, shape=self._shape
        )
        if not texts:
            return []
        with self._running():
            audio = states.project(self._model)
            runner = EagerRunner(self._model, audio, [0] * len(rows), len(rows[0]), attention=True)
            hidden, scores = runner.prefill(torch.tensor(rows, device=self._model.device))
            assert scores is not None
            return [
                self._aligned(hidden[i], scores[i], len(start), text, count)
                for i, (text, count) in enumerate(zip(texts, num_states, strict=True))
            ]

    def _aligned(
        self, hidden: Tensor, scores: Tensor, num_start: int, text: Sequence[int], num_states: int
    ) -> Alignment:
        """One item of a batch, its hidden states `(num_tokens, width)` and its heads' scores."""
        num_read = num_start + len(text) + 2
        weights = scores[:, :num_read, :num_states].softmax(dim=-1).cpu().numpy()
        path = align_tokens(weights, num_start) if num_states > 0 else ()
        # As CTranslate2 has it: among the tokens that are text, without the special ones.
        logits = self._model.logits(hidden[num_start : num_start + len(text)])[:, : self._tokens.end]
        ids = torch.tensor(list(text), dtype=torch.int64, device=self._model.device)
        probs = logits.softmax(dim=-1).gather(1, ids[:, None])[:, 0]
        return Alignment(path, tuple(map(float, probs.cpu().numpy())))


def choose_device(wanted: str) -> str:
    """ "cuda", "mps" or "cpu", the first that is there for "auto". Raises `ModelUnavailable`."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted in _AUTO:
        return next(device for device, usable in there.items() if usable)
    if wanted not in there:
        raise ModelUnavailable(f"unknown device {wanted!r}, expected auto, cpu, cuda or mps")
    if not there[wanted]:
        raise ModelUnavailable(f"device {wanted} was asked for and torch cannot use one here")
    return wanted


def choose_compute_type(wanted: str, device: str) -> str:
    """The device's default unless asked otherwise; a type that torch does not do here becomes the default."""
    supported = _TYPES_BY_DEVICE[device]
    if wanted in _AUTO or wanted in supported:
        return supported[0] if wanted in _AUTO else wanted
    _log.warning("compute type is not supported here", wanted=wanted, device=device, instead=supported[0])
    return supported[0]


def _set_threads(threads: int) -> None:
    """Torch has one number for the whole process, and changing it under a running call is not safe."""
    global _num_threads
    with _threads_lock:
        if _num_threads is None:
            _num_threads = max(1, threads)
            torch.set_num_threads(_num_threads)
        elif _num_threads != threads:
            _log.warning("torch's threads are already set", wanted=threads, used=_num_threads)
