"""Whisper on onnxruntime: CPUs, with attention while decoding, in float32 or 8 bits.

The graphs are written into the cache when a model is first loaded (`onnx_files`). Calls run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from serve_app.asr.engines.base import AUTO, DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.drafts import search_drafted, uses_drafts
from serve_app.asr.engines.lifting import search_lifted, uses_terms
from serve_app.asr.engines.onnx_decoder import (
    OnnxBatch,
    OnnxDraftDecoder,
    OnnxStepDecoder,
    OnnxTableDecoder,
)
from serve_app.asr.engines.onnx_files import graphs_of
from serve_app.asr.engines.onnx_model import OnnxWhisper, TextCache
from serve_app.asr.engines.search import search
from serve_app.asr.engines.weights import read_weights
from serve_app.asr.engines.whisper_engine import States, WhisperEngine, choose_type, softmax
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import ModelToLoad
from serve_app.core.errors import ModelUnavailable


def compute_types(*, english: bool) -> tuple[str, ...]:
    """The default first. `int8_float32` has the decoder in 8 bits, the encoder in float32: with it in 8 bits
    too, English was read as well, German was not (3 errors more in 218 words)."""
    first = ("int8", "int8_float32") if english else ("int8_float32", "int8")
    return (*first, "float32")


def load(model: ModelToLoad) -> OnnxEngine:
    """The factory that `STT_ENGINE=onnx` names."""
    return OnnxEngine(
        model.folder,
        device=model.device,
        compute_type=model.compute_type,
        threads=model.threads_per_worker,
        cache_dir=model.cache_dir,
        language=model.language,
    )


class OnnxEngine(WhisperEngine):
    """One Whisper model; calls run side by side."""

    _model: OnnxWhisper

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        compute_type: str = "auto",
        threads: int = 1,
        cache_dir: Path | None = None,
        language: str = "",
    ) -> None:
        """Load the model. Raises `ModelUnavailable` for a folder, device or cache that cannot be used."""
        if device not in AUTO and device != "cpu":
            raise ModelUnavailable(f"the onnx engine runs on CPUs, not on {device!r}")
        shape = read_weights(path).shape
        types = compute_types(english=language == "en" or not shape.multilingual)
        compute_type = choose_type(compute_type, types, "cpu")
        super().__init__(
            "onnx",
            path,
            shape,
            device="cpu",
            compute_type=compute_type,
            compute_types=types,
            drafts=True,
        )
        self._model = OnnxWhisper(graphs_of(path, compute_type, cache_dir), shape, threads)

    def _search(self, states: States, prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        start, end, no_speech, _ = self._tokens
        audio = states.project()
        batch = OnnxBatch(self._model, audio, prompts, options, start=start, no_speech=no_speech)
        if uses_terms(prompts, options):
            return search_lifted(OnnxTableDecoder(batch), prompts, options, start=start, end=end)
        if uses_drafts(prompts, options):
            drafting = OnnxDraftDecoder(batch, end=end)
            return search_drafted(drafting, prompts, options, start=start, end=end)
        return search(OnnxStepDecoder(batch), prompts, options, end=end)

    def _first_logits(self, states: States, ids: Sequence[int]) -> FloatArray:
        cache = TextCache(self._model, states.project())
        starts = [[self._tokens.start]] * states.batch_size
        logits, _ = cache.read(starts, np.zeros((len(starts), 1), dtype=np.int64), attention=False)
        found: FloatArray = logits[:, 0, list(ids)]
        return found

    def _read(
        self, states: States, rows: list[list[int]], first: int, texts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        cache = TextCache(self._model, states.project())
        longest = max(map(len, texts))
        places = np.broadcast_to(np.arange(first, first + longest), (len(rows), longest))
        logits, scores = cache.read(rows, places, attention=True)
        assert scores is not None
        for row, text in enumerate(texts):
            probs = softmax(logits[row, : len(text), : self._tokens.end])
            yield probs[np.arange(len(text)), list(text)], scores[row]
