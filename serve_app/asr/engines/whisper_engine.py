"""What the engines of our own have in common: torch, onnxruntime and MLX are loaded, checked and asked alike.

What is asked for is checked before tensors are made: an index out of range would be read, or stop a card,
instead of raising.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog

from serve_app.asr.engines.alignment import align_tokens
from serve_app.asr.engines.base import (
    AUTO,
    Alignment,
    Capabilities,
    DecodeOptions,
    Dimensions,
    Hypothesis,
    Prompt,
)
from serve_app.asr.engines.search import check_prompts
from serve_app.asr.engines.states import AudioModel, SplicedStates
from serve_app.asr.engines.weights import WhisperShape, tokenizer_file
from serve_app.asr.features import FloatArray
from serve_app.asr.ports import MAX_BEAM_SIZE
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.windows import FRAMES_PER_STATE
from serve_app.core.errors import ModelUnavailable
from serve_app.models.footprint import MAX_TEXT_POSITIONS

_log = structlog.get_logger(__name__)

States = SplicedStates[Any]


class SpecialTokens(NamedTuple):
    """The ids that an engine itself writes or looks for."""

    start: int
    end: int
    no_speech: int
    no_timestamps: int


class WhisperEngine(ABC):
    """`Engine` of a CTranslate2 (float16) or Hugging Face folder, but for the arithmetic."""

    _model: AudioModel[Any]

    def __init__(
        self,
        name: str,
        path: Path,
        shape: WhisperShape,
        *,
        device: str,
        compute_type: str,
        compute_types: Iterable[str],
        drafts: bool = False,
    ) -> None:
        """Raises `ModelUnavailable` where the folder's tokenizer is another model's."""
        self._shape = shape
        self._tokens = _special_tokens(path, shape)
        self.dimensions = Dimensions(shape.num_mels, shape.vocabulary_size, shape.multilingual)
        self.capabilities = Capabilities(
            engine=name,
            device=device,
            compute_type=compute_type,
            compute_types=tuple(sorted(compute_types)),
            batching=True,
            attention=True,
            mixed_prompts=True,
            short_windows=True,
            max_beam_size=MAX_BEAM_SIZE,
            drafts=drafts,
            terms=True,
        )

    # -- what an engine gives ----------------------------------------------------------------------

    def _running(self) -> AbstractContextManager[object]:
        """Around all that computes."""
        return nullcontext()

    @abstractmethod
    def _search(
        self, states: States, prompts: Sequence[Prompt], options: DecodeOptions
    ) -> list[Hypothesis]: ...

    @abstractmethod
    def _first_logits(self, states: States, ids: Sequence[int]) -> FloatArray:
        """Of these ids behind the start of transcript, `(batch, num_ids)`."""

    @abstractmethod
    def _read(
        self, states: States, rows: list[list[int]], first: int, texts: Sequence[Sequence[int]]
    ) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Read rows of equal length. Of each item the probabilities `(num_tokens,)` of its text, the first of
        which is predicted at place `first`, among the tokens under the end token, as CTranslate2 has it; and
        the alignment heads' scores of all of the row, not softmaxed, `(num_heads, length, num_states)`."""

    # -- Engine ------------------------------------------------------------------------------------

    def encode(self, features: FloatArray) -> States:
        """Raises ValueError for features of another shape than the model's."""
        max_frames = self._shape.num_audio_positions * FRAMES_PER_STATE
        if features.ndim != 3 or features.shape[1] != self._shape.num_mels:
            raise ValueError(
                f"features of shape {features.shape}, expected (batch, {self._shape.num_mels}, frames)"
            )
        if features.shape[2] % FRAMES_PER_STATE or not 0 < features.shape[2] <= max_frames:
            raise ValueError(f"{features.shape[2]} frames, expected an even number up to {max_frames}")
        with self._running():
            return SplicedStates(self._model, self._model.encode(features))

    def num_states(self, states: States) -> int:
        return states.num_states

    def splice(self, states: States, silence: States, num_states: int) -> States:
        return states.splice(silence, num_states)

    def take(self, states: States, rows: Sequence[int]) -> States:
        with self._running():
            return states.take(rows)

    def generate(self, states: States, prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        """Raises ValueError for prompts that do not fit the states, the vocabulary or the text positions."""
        if len(prompts) != states.batch_size:
            raise ValueError(f"{len(prompts)} prompts for {states.batch_size} items")
        check_prompts(prompts)
        for prompt in prompts:
            self._check_ids((*prompt.start, *prompt.forced, *prompt.draft))
            if prompt.num_states > states.num_states:
                raise ValueError(f"a prompt of {prompt.num_states} states, there are {states.num_states}")
        if not prompts:
            return []
        with self._running():
            return self._search(states, prompts, options)

    def detect_language(self, states: States, language_ids: Mapping[str, int]) -> list[dict[str, float]]:
        """Raises ValueError for ids outside of the vocabulary."""
        ids = list(language_ids.values())
        self._check_ids(ids)
        if not ids or not states.batch_size:
            return [{} for _ in range(states.batch_size)]
        with self._running():
            found = softmax(self._first_logits(states, ids))
        return [dict(zip(language_ids, map(float, row), strict=True)) for row in found]

    def align(
        self,
        states: States,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        num_states: Sequence[int],
    ) -> list[Alignment]:
        """Raises ValueError for texts that do not fit the states, the vocabulary or the text positions."""
        rows = self._rows_to_align(states, start, texts, num_states)
        if not any(texts):
            return [Alignment((), ()) for _ in texts]
        with self._running():
            # Row `len(start)`, the no-timestamps token's, predicts the text's first token.
            read = self._read(states, rows, len(start), texts)
            return [
                _aligned(probs, scores[:, : len(start) + len(text) + 2, :count], len(start))
                for (probs, scores), text, count in zip(read, texts, num_states, strict=True)
            ]

    # -- what is asked for -------------------------------------------------------------------------

    def _rows_to_align(
        self,
        states: States,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        num_states: Sequence[int],
    ) -> list[list[int]]:
        """What the decoder reads of each item, padded behind, where it changes nothing before it."""
        if not len(texts) == len(num_states) == states.batch_size:
            raise ValueError(
                f"{len(texts)} texts and {len(num_states)} lengths for {states.batch_size} items"
            )
        end = self._tokens.end
        rows = [[*start, self._tokens.no_timestamps, *text, end] for text in texts]
        for row, text in zip(rows, texts, strict=True):
            self._check_ids(row)
            if any(token >= end for token in text):
                raise ValueError("special tokens cannot be aligned")
        longest = max(map(len, rows), default=0)
        if longest > MAX_TEXT_POSITIONS:
            raise ValueError(f"a text of {longest} tokens, expected up to {MAX_TEXT_POSITIONS}")
        return [row + [end] * (longest - len(row)) for row in rows]

    def _check_ids(self, ids: Iterable[int]) -> None:
        if any(not 0 <= token < self._shape.vocabulary_size for token in ids):
            raise ValueError(f"token ids must be under {self._shape.vocabulary_size}")


def _special_tokens(path: Path, shape: WhisperShape) -> SpecialTokens:
    known = Vocabulary(tokenizer_file(path), multilingual=shape.multilingual)
    tokens = SpecialTokens(known.start, known.end, known.no_speech, known.no_timestamps)
    if max(tokens) >= shape.vocabulary_size:
        raise ModelUnavailable(f"the tokenizer in {path} is not that of its model")
    return tokens


def _aligned(probs: FloatArray, scores: FloatArray, num_start: int) -> Alignment:
    """One item's, from the scores of what was read for it, over its own states."""
    if not len(probs) or not scores.shape[2]:
        return Alignment((), ())
    return Alignment(align_tokens(softmax(scores), num_start), tuple(map(float, probs)))


def choose_type(wanted: str, supported: Sequence[str], device: str) -> str:
    """The first of the supported types unless another of them was asked for."""
    if wanted in supported:
        return wanted
    if wanted not in AUTO:
        _log.warning("compute type is not supported here", wanted=wanted, device=device, instead=supported[0])
    return supported[0]


def softmax(scores: FloatArray) -> FloatArray:
    """Probabilities over the last axis."""
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found: FloatArray = raised / raised.sum(axis=-1, keepdims=True)
    return found
