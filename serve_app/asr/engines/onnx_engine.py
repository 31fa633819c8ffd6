"""Whisper on onnxruntime: CPUs, with attention while decoding, in float32 or 8 bits.

The graphs are written into the cache when a model is first loaded (`onnx_files`). Calls run side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

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
from serve_app.asr.engines.drafts import search_drafted, uses_drafts
from serve_app.asr.engines.inputs import check_features, check_ids, rows_to_align, special_tokens
from serve_app.asr.engines.lifting import search_lifted, uses_terms
from serve_app.asr.engines.onnx_decoder import (
    OnnxBatch,
    OnnxDraftDecoder,
    OnnxStepDecoder,
    OnnxTableDecoder,
    softmax,
)
from serve_app.asr.engines.onnx_files import graphs_of
from serve_app.asr.engines.onnx_model import OnnxStates, OnnxWhisper, TextCache
from serve_app.asr.engines.search import check_prompts, search
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import ModelToLoad
from serve_app.core.errors import ModelUnavailable

MAX_BEAM_SIZE = 20
_AUTO = frozenset({"", "auto", "default"})
_TYPES = ("int8_float32", "int8", "float32")
"""The first is the default: the decoder in 8 bits, the encoder in float32."""

_log = structlog.get_logger(__name__)


def load(model: ModelToLoad) -> OnnxEngine:
    """The factory that `STT_ENGINE=onnx` names."""
    return OnnxEngine(
        model.folder,
        device=model.device,
        compute_type=model.compute_type,
        threads=model.threads_per_worker,
        cache_dir=model.cache_dir,
    )


class OnnxEngine:
    """One Whisper model of a CTranslate2 (float16) or Hugging Face folder."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 1,
        cache_dir: Path | None = None,
    ) -> None:
        """Load the model. Raises `ModelUnavailable` for a folder, device or cache that cannot be used."""
        if device not in _AUTO and device != "cpu":
            raise ModelUnavailable(f"the onnx engine runs on CPUs, not on {device!r}")
        compute_type = choose_compute_type(compute_type)
        shape = read_weights(path).shape
        self._shape = shape
        self._tokens = special_tokens(path, shape)
        self._model = OnnxWhisper(graphs_of(path, compute_type, cache_dir), shape, threads)
        self._dimensions = Dimensions(shape.num_mels, shape.vocabulary_size, shape.multilingual)
        self._capabilities = Capabilities(
            engine="onnx",
            device="cpu",
            compute_type=compute_type,
            compute_types=tuple(sorted(_TYPES)),
            batching=True,
            attention=True,
            mixed_prompts=True,
            short_windows=True,
            max_beam_size=MAX_BEAM_SIZE,
            drafts=True,
            terms=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def dimensions(self) -> Dimensions:
        return self._dimensions

    def encode(self, features: FloatArray) -> OnnxStates:
        """Raises ValueError for features of another shape."""
        check_features(features, self._shape)
        return OnnxStates(self._model.encode(features))

    def num_states(self, states: OnnxStates) -> int:
        return states.num_states

    def splice(self, states: OnnxStates, silence: OnnxStates, num_states: int) -> OnnxStates:
        return states.splice(silence, num_states)

    def take(self, states: OnnxStates, rows: Sequence[int]) -> OnnxStates:
        return states.take(rows)

    def generate(
        self, states: OnnxStates, prompts: Sequence[Prompt], options: DecodeOptions
    ) -> list[Hypothesis]:
        """Raises ValueError for prompts that leave no room for an answer, or are not one for each item."""
        if len(prompts) != states.batch_size:
            raise ValueError(f"{len(prompts)} prompts for {states.batch_size} items")
        check_prompts(prompts)
        for prompt in prompts:
            check_ids((*prompt.start, *prompt.forced, *prompt.draft), self._shape)
        if not prompts:
            return []
        batch = OnnxBatch(
            self._model,
            states,
            prompts,
            options,
            start=self._tokens.start,
            no_speech=self._tokens.no_speech,
        )
        if uses_terms(prompts, options):
            return search_lifted(OnnxTableDecoder(batch), prompts, options, end=self._tokens.end)
        if uses_drafts(prompts, options):
            return search_drafted(OnnxDraftDecoder(batch), prompts, options, end=self._tokens.end)
        return search(OnnxStepDecoder(batch), prompts, options, end=self._tokens.end)

    def detect_language(self, states: OnnxStates, language_ids: Mapping[str, int]) -> list[dict[str, float]]:
        """Raises ValueError for ids outside of the vocabulary."""
        ids = list(language_ids.values())
        check_ids(ids, self._shape)
        if not ids or not states.batch_size:
            return [{} for _ in range(states.batch_size)]
        cache = TextCache(self._model, states.project(self._model))
        starts = [[self._tokens.start]] * states.batch_size
        logits, _ = cache.read(starts, np.zeros((len(starts), 1), dtype=np.int64), attention=False)
        found = softmax(logits[:, 0, ids])
        return [dict(zip(language_ids, map(float, row), strict=True)) for row in found]

    def align(
        self,
        states: OnnxStates,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        num_states: Sequence[int],
    ) -> list[Alignment]:
        """Raises ValueError for texts that are too long, or are not one for each item."""
        rows = rows_to_align(
            start, texts, num_states, num_items=states.batch_size, tokens=self._tokens, shape=self._shape
        )
        if not any(texts):
            return [Alignment((), ()) for _ in texts]
        cache = TextCache(self._model, states.project(self._model))
        longest = max(map(len, texts))
        # Row `len(start)`, the no-timestamps token's, predicts the text's first token.
        places = np.broadcast_to(np.arange(len(start), len(start) + longest), (len(rows), longest))
        logits, scores = cache.read(rows, places, attention=True)
        assert scores is not None
        return [
            self._aligned(logits[row], scores[row], len(start), texts[row], num_states[row])
            for row in range(len(rows))
        ]

    def _aligned(
        self, logits: FloatArray, scores: FloatArray, num_start: int, text: Sequence[int], num_states: int
    ) -> Alignment:
        """One item's path, from logits of its text and scores `(num_heads, num_tokens, num_states)`."""
        num_states = min(num_states, scores.shape[2])
        if num_states < 1 or not text:
            return Alignment((), ())
        weights = softmax(scores[:, : num_start + len(text) + 2, :num_states])
        # As CTranslate2 has it: among the tokens that are text, without the special ones.
        probs = softmax(logits[: len(text), : self._tokens.end])[np.arange(len(text)), list(text)]
        return Alignment(align_tokens(weights, num_start), tuple(map(float, probs)))


def choose_compute_type(wanted: str) -> str:
    """The default unless asked otherwise; a type that there is none of here becomes the default."""
    if wanted in _AUTO:
        return _TYPES[0]
    if wanted not in _TYPES:
        _log.warning("compute type is not supported here", wanted=wanted, device="cpu", instead=_TYPES[0])
        return _TYPES[0]
    return wanted
