"""What our own engines check and prepare before tensors are made: an index out of range would be read, or
stop a card, instead of raising."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from serve_app.asr.engines.weights import WhisperShape, tokenizer_file
from serve_app.asr.features import FloatArray
from serve_app.asr.vocabulary import Vocabulary
from serve_app.core.errors import ModelUnavailable
from serve_app.models.footprint import MAX_TEXT_POSITIONS

_FRAMES_PER_STATE = 2


class SpecialTokens(NamedTuple):
    """The ids that an engine itself writes or looks for."""

    start: int
    end: int
    no_speech: int
    no_timestamps: int


def special_tokens(path: Path, shape: WhisperShape) -> SpecialTokens:
    """Of the folder's tokenizer. Raises `ModelUnavailable` where it is another model's."""
    known = Vocabulary(tokenizer_file(path), multilingual=shape.multilingual)
    tokens = SpecialTokens(known.start, known.end, known.no_speech, known.no_timestamps)
    if max(tokens) >= shape.vocabulary_size:
        raise ModelUnavailable(f"the tokenizer in {path} is not that of its model")
    return tokens


def check_features(features: FloatArray, shape: WhisperShape) -> None:
    """Raise ValueError for features of another shape than the model's."""
    max_frames = shape.num_audio_positions * _FRAMES_PER_STATE
    if features.ndim != 3 or features.shape[1] != shape.num_mels:
        raise ValueError(f"features of shape {features.shape}, expected (batch, {shape.num_mels}, frames)")
    if features.shape[2] % _FRAMES_PER_STATE or not 0 < features.shape[2] <= max_frames:
        raise ValueError(f"{features.shape[2]} frames, expected an even number up to {max_frames}")


def check_ids(ids: Iterable[int], shape: WhisperShape) -> None:
    """Raise ValueError for ids outside of the vocabulary."""
    if any(not 0 <= token < shape.vocabulary_size for token in ids):
        raise ValueError(f"token ids must be under {shape.vocabulary_size}")


def rows_to_align(
    start: Sequence[int],
    texts: Sequence[Sequence[int]],
    num_states: Sequence[int],
    *,
    num_items: int,
    tokens: SpecialTokens,
    shape: WhisperShape,
) -> list[list[int]]:
    """What the decoder reads of each item, padded behind, where it changes nothing before it.

    Raises ValueError for texts that do not fit the states, the vocabulary or the text positions.
    """
    if not len(texts) == len(num_states) == num_items:
        raise ValueError(f"{len(texts)} texts and {len(num_states)} lengths for {num_items} items")
    rows = [[*start, tokens.no_timestamps, *text, tokens.end] for text in texts]
    for row, text in zip(rows, texts, strict=True):
        check_ids(row, shape)
        if any(token >= tokens.end for token in text):
            raise ValueError("special tokens cannot be aligned")
    longest = max(map(len, rows), default=0)
    if longest > MAX_TEXT_POSITIONS:
        raise ValueError(f"a text of {longest} tokens, expected up to {MAX_TEXT_POSITIONS}")
    return [row + [tokens.end] * (longest - len(row)) for row in rows]
