"""Silero VAD through onnxruntime: one step of the network for all streams at once.

Stacked and single runs give the same bits, so a result does not depend on who else was in the batch.
Source: github.com/snakers4/silero-vad, 6.2 weights; 64 samples of context in front of each 512-sample window.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import FULL_SCALE, SAMPLE_RATE_HZ
from serve_app.vad.detector import (
    SILERO_STATE,
    WINDOW_SAMPLES,
    Float32,
    PackedRequests,
    PackedResults,
    StateShape,
    VadRequest,
    VadResult,
    pack_requests,
    unpack_results,
)

_CONTEXT_SAMPLES: Final = SILERO_STATE.num_context_samples
_LONG_REQUEST_WINDOWS: Final = 16
_BLOCK_WINDOWS: Final = 256
"""How much of a long request is turned to floats at a time: 0.6 MB."""
_SAMPLE_RATE: Final = np.array(SAMPLE_RATE_HZ, np.int64)
_SCALE: Final = np.float32(1 / FULL_SCALE)


class SileroDetector:
    """`silero_vad.onnx`, and where given `silero_vad_16k_sequence.onnx` for requests of over 16 windows.

    Raises `ModelUnavailable` where a file is missing or is another model. Safe to call from several threads.
    """

    window_samples = WINDOW_SAMPLES
    state_shape: StateShape = SILERO_STATE

    def __init__(self, model_path: Path, sequence_model_path: Path | None = None) -> None:
        self._step = _load(model_path, ("input", "state", "sr"))
        self._sequence = _load(sequence_model_path, ("input", "h", "c")) if sequence_model_path else None

    def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One result per request, in order. Raises `ValueError` on samples that are no whole windows."""
        return unpack_results(self.detect_packed(pack_requests(requests, SILERO_STATE)))

    def detect_packed(self, batch: PackedRequests) -> PackedResults:
        """The same for requests that came packed."""
        probs = np.empty(len(batch.windows), np.float32)
        recurrent, context = batch.recurrent.copy(), batch.context.copy()
        starts = np.cumsum(batch.counts) - batch.counts
        long = (
            batch.counts > _LONG_REQUEST_WINDOWS
            if self._sequence is not None
            else np.zeros_like(batch.counts)
        )
        for row in np.flatnonzero(long):
            span = slice(starts[row], starts[row] + batch.counts[row])
            probs[span], recurrent[row] = self._run_sequence(
                batch.windows[span], recurrent[row], context[row]
            )
        rows = np.flatnonzero((long == 0) & (batch.counts > 0))
        if len(rows):
            # Longest first: the streams that still have a window are then always the first ones.
            rows = rows[np.argsort(-batch.counts[rows], kind="stable")]
            self._run_steps(batch, rows, starts[rows], probs, recurrent)
        for row in np.flatnonzero(batch.counts):
            context[row] = batch.windows[starts[row] + batch.counts[row] - 1, -_CONTEXT_SAMPLES:]
        return PackedResults(probs, batch.counts, recurrent, context)

    def _run_steps(
        self,
        batch: PackedRequests,
        rows: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        probs: Float32,
        recurrent: Float32,
    ) -> None:
        """Window by window, every stream that has one stacked; fills `probs` and `recurrent`."""
        counts = batch.counts[rows]
        state = np.ascontiguousarray(recurrent[rows].transpose(1, 0, 2))
        inputs = np.empty((len(rows), _CONTEXT_SAMPLES + WINDOW_SAMPLES), np.float32)
        np.multiply(batch.context[rows], _SCALE, out=inputs[:, -_CONTEXT_SAMPLES:])
        for step in range(int(counts[0])):
            active = int(np.count_nonzero(counts > step))
            if active < len(inputs):
                recurrent[rows[active : len(inputs)]] = state[:, active:].transpose(1, 0, 2)
                inputs, state = inputs[:active], np.ascontiguousarray(state[:, :active])
            at = starts[:active] + step
            inputs[:, :_CONTEXT_SAMPLES] = inputs[:, -_CONTEXT_SAMPLES:]
            np.multiply(batch.windows[at], _SCALE, out=inputs[:, _CONTEXT_SAMPLES:])
            answer, state = self._step.run(None, {"input": inputs, "state": state, "sr": _SAMPLE_RATE})
            probs[at] = answer[:, 0]
        recurrent[rows[: len(inputs)]] = state.transpose(1, 0, 2)

    def _run_sequence(
        self, windows: npt.NDArray[np.int16], recurrent: Float32, context: npt.NDArray[np.int16]
    ) -> tuple[Float32, Float32]:
        """One long stream, block by block; int16 `(k, 512)` to probabilities `(k,)` and the state after."""
        assert self._sequence is not None
        probs = np.empty(len(windows), np.float32)
        h, c = recurrent[:1, np.newaxis], recurrent[1:, np.newaxis]
        for start in range(0, len(windows), _BLOCK_WINDOWS):
            block = windows[start : start + _BLOCK_WINDOWS]
            inputs = np.empty((len(block), _CONTEXT_SAMPLES + WINDOW_SAMPLES), np.float32)
            np.multiply(block, _SCALE, out=inputs[:, _CONTEXT_SAMPLES:])
            np.multiply(context, _SCALE, out=inputs[0, :_CONTEXT_SAMPLES])
            inputs[1:, :_CONTEXT_SAMPLES] = inputs[:-1, -_CONTEXT_SAMPLES:]
            answer, h, c = self._sequence.run(None, {"input": inputs, "h": h, "c": c})
            probs[start : start + len(block)] = answer.reshape(-1)
            context = block[-1, -_CONTEXT_SAMPLES:]
        return probs, np.concatenate([h[0], c[0]])


def _load(path: Path, inputs: tuple[str, ...]) -> Any:
    """An onnxruntime session on one thread that never spins: the cores belong to the recognisers."""
    if not path.is_file():
        raise ModelUnavailable(f"voice activity model {path.name} is missing")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (RuntimeError, ort.capi.onnxruntime_pybind11_state.InvalidProtobuf) as error:
        raise ModelUnavailable(f"voice activity model {path.name} cannot be loaded") from error
    names = tuple(entry.name for entry in session.get_inputs())
    if sorted(names) != sorted(inputs):
        raise ModelUnavailable(f"{path.name} has the inputs {names}: expected {inputs}")
    return session
