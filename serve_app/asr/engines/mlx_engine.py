"""Whisper on MLX: the engine for Apple silicon.

MLX evaluates lazily, and what is not evaluated yet belongs to the thread that made it: every method here
evaluates all that it keeps or returns, one call at a time. On a CPU it is right and some twenty times slower
than CTranslate2.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import mlx.core as mx
import numpy as np

from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.lifting import SteppedTables, search_lifted, uses_terms
from serve_app.asr.engines.mlx_decoder import MlxStepDecoder
from serve_app.asr.engines.mlx_model import MlxWhisper, log_softmax
from serve_app.asr.engines.search import search
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.engines.whisper_engine import States, WhisperEngine, choose_type
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import ModelToLoad

_DTYPES = {"float16": mx.float16, "float32": mx.float32}
_MAX_CACHED_BYTES = 1 << 30
"""Of freed buffers that MLX keeps for later: windows of many lengths would have it keep ever more."""


def load(model: ModelToLoad) -> MlxEngine:
    """The factory that `STT_ENGINE=mlx` names."""
    return MlxEngine(model.folder, compute_type=model.compute_type)


class MlxEngine(WhisperEngine):
    """One Whisper model. Calls of several threads wait in turn."""

    _model: MlxWhisper

    def __init__(self, path: Path, *, compute_type: str = "auto") -> None:
        """Load the model onto MLX's own device. Raises `ModelUnavailable` for a folder that is none."""
        on_gpu = mx.default_device().type == mx.DeviceType.gpu
        device = "cpu"
        if on_gpu:
            device = "mps" if mx.metal.is_available() else "cuda"
        supported = ("float16", "float32") if on_gpu else ("float32", "float16")
        compute_type = choose_type(compute_type, supported, device)
        weights = read_weights(path)
        super().__init__(
            "mlx",
            path,
            weights.shape,
            device=device,
            compute_type=compute_type,
            compute_types=supported,
        )
        mx.set_cache_limit(_MAX_CACHED_BYTES)
        self._model = MlxWhisper(weights, _DTYPES[compute_type])
        self._lock = threading.Lock()

    def _running(self) -> AbstractContextManager[object]:
        return self._lock

    def _search(self, states: States, prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        start, end, no_speech, _ = self._tokens

        def decoder(items: Sequence[int], given: Sequence[Prompt]) -> MlxStepDecoder:
            audio = (states if len(items) == states.batch_size else states.take(items)).project()
            return MlxStepDecoder(self._model, audio, given, options, start=start, no_speech=no_speech)

        if uses_terms(prompts, options):
            return search_lifted(SteppedTables(decoder, prompts), prompts, options, start=start, end=end)
        return search(decoder(range(len(prompts)), prompts), prompts, options, end=end)

    def _first_logits(self, states: States, ids: Sequence[int]) -> FloatArray:
        tokens = mx.full((states.batch_size, 1), self._tokens.start, dtype=mx.int32)
        hidden, _ = self._model.decode(tokens, self._model.cache(states.project(), [0] * states.batch_size))
        return np.array(self._model.logits(hidden[:, 0])[:, mx.array(list(ids))])

    def _read(
        self, states: States, rows: list[list[int]], first: int, texts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        cache = self._model.cache(states.project(), [0] * len(rows))
        hidden, scores = self._model.decode(mx.array(rows), cache, attention=True)
        assert scores is not None
        mx.eval(hidden, scores)
        for row, text in enumerate(texts):
            if not text:
                yield np.zeros(0, np.float32), np.array(scores[row])
                continue
            logits = self._model.logits(hidden[row, first : first + len(text)])[:, : self._tokens.end]
            chosen = mx.take_along_axis(log_softmax(logits), mx.array(list(text))[:, None], axis=-1)
            yield np.array(mx.exp(chosen))[:, 0], np.array(scores[row])
