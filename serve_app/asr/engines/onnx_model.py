"""Whisper's graphs in onnxruntime, and the keys and values of one batch of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from serve_app.asr.engines.onnx_files import GRAPHS
from serve_app.asr.engines.search import IntArray
from serve_app.asr.engines.weights import WhisperShape
from serve_app.asr.features import FloatArray
from serve_app.core.errors import ModelUnavailable

_MASKED = np.float32(-1e9)
"""Added to the score of a key that must not be seen. Finite: a row that sees none gives numbers still."""

_MAX_UNUSED_COLUMNS = 16
"""Masked, since to close the gap costs a copy of all keys and values."""


class OnnxWhisper:
    """The sessions of one model. Thread-safe; each call computes on its own thread and `threads - 1` more."""

    def __init__(self, folder: Path, shape: WhisperShape, threads: int) -> None:
        """Raises `ModelUnavailable` for graphs that onnxruntime does not take."""
        self.shape = shape
        try:
            self._encoder, self._cross, self._decoder = (
                _session(folder / f"{name}.onnx", threads) for name in GRAPHS
            )
        except Exception as error:  # onnxruntime's errors have no common class but this
            raise ModelUnavailable(f"onnxruntime cannot load the graphs in {folder}: {error}") from error
        self._present = [f"present_{i}" for i in range(2 * shape.num_decoder_layers)]
        self._short = ort.RunOptions()
        # Attention that was not asked for is not computed.
        self._short.only_execute_path_to_fetches = True

    def encode(self, features: FloatArray) -> FloatArray:
        """States `(batch, num_states, width)` of features `(batch, num_mels, num_frames)`."""
        states: FloatArray = self._encoder.run(
            None, {"features": np.ascontiguousarray(features, np.float32)}
        )[0]
        return states

    def project(self, states: FloatArray) -> FloatArray:
        """Keys and values `(2 * num_layers, batch, num_heads, num_states, head_width)`."""
        projected: FloatArray = self._cross.run(None, {"states": np.ascontiguousarray(states)})[0]
        return projected

    def take(self, states: FloatArray, rows: Sequence[int]) -> FloatArray:
        taken: FloatArray = states[list(rows)]
        return taken

    def join(self, projected: FloatArray, silence: FloatArray) -> FloatArray:
        tail = np.broadcast_to(silence, (*projected.shape[:-2], *silence.shape[-2:]))
        joined: FloatArray = np.concatenate([projected, tail], axis=-2)
        return joined

    def decode(
        self, feeds: dict[str, Any], *, attention: bool
    ) -> tuple[list[Any], FloatArray, FloatArray | None]:
        """Keys and values with the new tokens' behind them, logits at the places asked for, and scores."""
        outputs = [*self._present, "logits", *(["scores"] if attention else [])]
        found = self._decoder.run_with_ort_values(outputs, feeds, self._short)
        num_cached = len(self._present)
        scores = found[num_cached + 1].numpy() if attention else None
        return found[:num_cached], found[num_cached].numpy(), scores


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = max(1, threads), 1
    options.log_severity_level = 3
    # Patterns are kept for every shape that was seen, and shapes here are without number.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class TextCache:
    """One batch in the decoder. Rows may be of different lengths: columns that are not part of a row are
    masked, and a row's next position is the number of those that are."""

    def __init__(self, model: OnnxWhisper, audio: FloatArray) -> None:
        """`audio`: the projected states."""
        self._model = model
        num_items = audio.shape[1]
        self._audio = audio
        self._cross = self._audio_feeds()
        self._num_items = num_items
        shape = model.shape
        empty = np.zeros(
            (num_items, shape.num_decoder_heads, 0, shape.width // shape.num_decoder_heads), np.float32
        )
        self._past = [_value(empty)] * (2 * shape.num_decoder_layers)
        self._valid: npt.NDArray[np.bool_] = np.zeros((num_items, 0), dtype=np.bool_)

    def read(
        self, rows: Sequence[Sequence[int]], places: IntArray, *, attention: bool
    ) -> tuple[FloatArray, FloatArray | None]:
        """Append tokens, at least one a row, to each row.

        `places` `(num_rows, num_places)` among each row's new tokens. Logits there `(num_rows, num_places,
        vocabulary_size)`, and scores of the alignment heads at all of the new tokens, `(num_rows, num_heads,
        longest, num_states)`, where attention was asked for.
        """
        num_rows, longest = len(rows), max(map(len, rows))
        tokens = np.zeros((num_rows, longest), dtype=np.int64)
        fresh = np.zeros((num_rows, longest), dtype=np.bool_)
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = ids
            fresh[row, : len(ids)] = True
        first = self._valid.sum(axis=1, keepdims=True)
        positions = first + np.arange(longest)
        positions = np.minimum(positions, self._model.shape.num_text_positions - 1)
        mask = self._mask(longest)
        feeds = dict(self._cross)
        feeds |= {f"past_{i}": past for i, past in enumerate(self._past)}
        feeds |= {
            "tokens": _value(tokens),
            "positions": _value(positions),
            "mask": _value(mask),
            "places": _value(np.ascontiguousarray(places[:, :, None])),
        }
        self._past, logits, scores = self._model.decode(feeds, attention=attention)
        self._valid = np.concatenate([self._valid, fresh], axis=1)
        return logits, None if scores is None else self._by_row(scores, num_rows)

    def select(self, rows: IntArray) -> None:
        """Keep these rows, as `StepDecoder.select` says."""
        beams = len(self._valid) // self._num_items
        items = rows // beams
        left = items[np.flatnonzero(np.diff(items, prepend=-1))]
        if len(left) < self._num_items:
            self._audio = self._audio[:, left]
            self._cross = self._audio_feeds()
            self._num_items = len(left)
        if not np.array_equal(rows, np.arange(len(self._valid))):
            self._past = [_value(past.numpy()[rows]) for past in self._past]
            self._valid = self._valid[rows]

    def drop_last(self, num_tokens: Sequence[int]) -> None:
        """Remove the last `num_tokens` tokens of each row."""
        lengths = self._valid.sum(axis=1) - np.asarray(num_tokens)
        self._valid &= self._valid.cumsum(axis=1) <= lengths[:, None]
        longest = int(lengths.max())
        if self._valid.shape[1] - longest <= _MAX_UNUSED_COLUMNS:
            return
        # Each row's columns from the left on again.
        order = np.argsort(~self._valid, axis=1, kind="stable")[:, :longest]
        self._valid = np.take_along_axis(self._valid, order, axis=1)
        columns = order[:, None, :, None]
        self._past = [_value(np.take_along_axis(past.numpy(), columns, axis=2)) for past in self._past]

    def _mask(self, num_new: int) -> FloatArray:
        """What is added to the scores of new tokens with all before them and themselves."""
        num_rows, num_past = self._valid.shape
        mask = np.zeros((num_rows, 1, num_new, num_past + num_new), dtype=np.float32)
        mask[..., :num_past] = np.where(self._valid, 0, _MASKED)[:, None, None, :]
        # What lies behind a row's new tokens comes later than all of them.
        mask[..., num_past:] = np.triu(np.full((num_new, num_new), _MASKED), 1)
        return mask

    def _audio_feeds(self) -> dict[str, Any]:
        return {f"cross_{i}": _value(part) for i, part in enumerate(self._audio)}

    def _by_row(self, scores: FloatArray, num_rows: int) -> FloatArray:
        """`(num_items, num_heads, rows of an item * new, num_states)` to one for each row."""
        items, heads, queries, states = scores.shape
        beams = num_rows // items
        apart = scores.reshape(items, heads, beams, queries // beams, states)
        return apart.swapaxes(1, 2).reshape(num_rows, heads, queries // beams, states)


def _value(array: npt.NDArray[Any]) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(array)
