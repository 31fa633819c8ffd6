"""Whisper on MLX: the engine for Apple silicon.

MLX evaluates lazily, and what is not evaluated yet belongs to the thread that made it: every method here
evaluates all that it keeps or returns, one call at a time. On a CPU it is right and some twenty times slower
than CTranslate2.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import structlog

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
from serve_app.asr.engines.mlx_decoder import MlxStepDecoder
from serve_app.asr.engines.mlx_model import MlxWhisper, log_softmax
from serve_app.asr.engines.search import check_prompts, search
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import ModelToLoad

MAX_BEAM_SIZE = 20
_DTYPES = {"float16": mx.float16, "float32": mx.float32}
_AUTO = frozenset({"", "auto", "default"})
_MAX_CACHED_BYTES = 1 << 30
"""Of freed buffers that MLX keeps for later: windows of many lengths would have it keep ever more."""

_log = structlog.get_logger(__name__)


def load(model: ModelToLoad) -> MlxEngine:
    """The factory that `STT_ENGINE=mlx` names."""
    return MlxEngine(model.folder, compute_type=model.compute_type)


class MlxEngine:
    """One Whisper model of a CTranslate2 or Hugging Face folder. Calls of several threads wait in turn."""

    def __init__(self, path: Path, *, compute_type: str = "auto") -> None:
        """Load the model onto MLX's own device. Raises `ModelUnavailable` for a folder that is none."""
        on_gpu = mx.default_device().type == mx.DeviceType.gpu
        compute_type = _choose_compute_type(compute_type, on_gpu=on_gpu)
        weights = read_weights(path)
        self._tokens = special_tokens(path, weights.shape)
        mx.set_cache_limit(_MAX_CACHED_BYTES)
        self._model = MlxWhisper(weights, _DTYPES[compute_type])
        self._lock = threading.Lock()
        self._shape = weights.shape
        device = "cpu"
        if on_gpu:
            device = "mps" if mx.metal.is_available() else "cuda"
        self._capabilities = Capabilities(
            engine="mlx",
            device=device,
            compute_type=compute_type,
            compute_types=tuple(_DTYPES),
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
        shape = self._shape
        return Dimensions(shape.num_mels, shape.vocabulary_size, shape.multilingual)

    def encode(self, features: FloatArray) -> mx.array:
        """Raises ValueError for features of another shape than the model's."""
        check_features(features, self._shape)
        with self._lock:
            return _evaluated(self._model.encode(features))

    def num_states(self, states: mx.array) -> int:
        return int(states.shape[1])

    def splice(self, states: mx.array, silence: mx.array, num_states: int) -> mx.array:
        num_items, own, _ = states.shape
        if own >= num_states:
            return states
        with self._lock:
            tail = silence[:, own:num_states]
            tail = mx.broadcast_to(tail, (num_items, *tail.shape[1:]))
            return _evaluated(mx.concatenate([states, tail], axis=1))

    def take(self, states: mx.array, rows: Sequence[int]) -> mx.array:
        with self._lock:
            return _evaluated(states[mx.array(list(rows), dtype=mx.int32)])

    def generate(
        self, states: mx.array, prompts: Sequence[Prompt], options: DecodeOptions
    ) -> list[Hypothesis]:
        """Raises ValueError for prompts that do not fit the states, the vocabulary or the text positions."""
        if len(states) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts for {len(states)} items")
        check_prompts(prompts)
        for prompt in prompts:
            check_ids(prompt.start, self._shape)
            check_ids(prompt.forced, self._shape)
            if prompt.num_states > states.shape[1]:
                raise ValueError(f"a prompt of {prompt.num_states} states, there are {states.shape[1]}")
        if not prompts:
            return []

        def decoder(items: Sequence[int], given: Sequence[Prompt]) -> MlxStepDecoder:
            rows = states if len(items) == len(states) else states[mx.array(list(items))]
            return MlxStepDecoder(
                self._model,
                rows,
                given,
                options,
                start=self._tokens.start,
                no_speech=self._tokens.no_speech,
            )

        with self._lock:
            if uses_terms(prompts, options):
                return search_lifted(SteppedTables(decoder, prompts), prompts, options, end=self._tokens.end)
            return search(decoder(range(len(prompts)), prompts), prompts, options, end=self._tokens.end)

    def detect_language(self, states: mx.array, language_ids: Mapping[str, int]) -> list[dict[str, float]]:
        """Raises ValueError for ids outside of the vocabulary."""
        ids = list(language_ids.values())
        check_ids(ids, self._shape)
        if not ids:
            return [{} for _ in range(len(states))]
        with self._lock:
            tokens = mx.full((len(states), 1), self._tokens.start, dtype=mx.int32)
            hidden, _ = self._model.decode(tokens, self._model.cache(states, [0] * len(states)))
            logits = self._model.logits(hidden[:, 0])[:, mx.array(ids)]
            probabilities = np.array(mx.softmax(logits, axis=-1))
        return [dict(zip(language_ids, map(float, row), strict=True)) for row in probabilities]

    def align(
        self,
        states: mx.array,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        num_states: Sequence[int],
    ) -> list[Alignment]:
        """Raises ValueError for texts that do not fit the states, the vocabulary or the text positions."""
        rows = rows_to_align(
            start, texts, num_states, num_items=len(states), tokens=self._tokens, shape=self._shape
        )
        if not any(texts):
            return [Alignment((), ()) for _ in texts]
        with self._lock:
            cache = self._model.cache(states, [0] * len(rows))
            hidden, scores = self._model.decode(mx.array(rows), cache, attention=True)
            assert scores is not None
            mx.eval(hidden, scores)
            return [
                self._aligned(hidden[row], scores[row], len(start), texts[row], num_states[row])
                for row in range(len(rows))
            ]

    def _aligned(
        self, hidden: mx.array, scores: mx.array, num_start: int, text: Sequence[int], num_states: int
    ) -> Alignment:
        """One item's path, from hidden states `(num_tokens, width)` and scores `(num_heads, num_tokens,
        num_states)` of the start sequence, no-timestamps, the text, the end token and perhaps padding."""
        num_states = min(num_states, scores.shape[2])
        if num_states < 1 or not text:
            return Alignment((), ())
        num_tokens = num_start + len(text) + 2
        weights = np.array(mx.softmax(scores[:, :num_tokens, :num_states], axis=-1))
        # Row `num_start`, the no-timestamps token's, predicts the text's first token.
        logits = self._model.logits(hidden[num_start : num_start + len(text)])[:, : self._tokens.end]
        chosen = mx.take_along_axis(log_softmax(logits), mx.array(list(text))[:, None], axis=-1)
        probabilities = np.array(mx.exp(chosen))[:, 0]
        return Alignment(align_tokens(weights, num_start), tuple(map(float, probabilities)))


def _evaluated(array: mx.array) -> mx.array:
    mx.eval(array)
    return array


def _choose_compute_type(wanted: str, *, on_gpu: bool) -> str:
    """float16 on a GPU and float32 on a CPU, unless another that there is was asked for."""
    default = "float16" if on_gpu else "float32"
    if wanted in _AUTO:
        return default
    if wanted not in _DTYPES:
        _log.warning("compute type is not supported here", wanted=wanted, device="mlx", instead=default)
        return default
    return wanted
