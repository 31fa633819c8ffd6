"""The interface of every voice activity model: stateless calls, the state travels with the request.

Because the caller carries the state, any replica can answer, a retry is exact, and one call may hold the
windows of many sessions. `PackedRequests` is the form for a remote call: four arrays, however many sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from serve_app.core.samples import FULL_SCALE, Pcm16

WINDOW_SAMPLES: Final = 512
"""32 ms at 16 kHz: what one speech probability stands for."""

Float32: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VadState:
    """What a detector must know of the audio before: its own shapes, zeros at the start of a stream.

    `recurrent` float32, `context` int16: the newest samples already seen.
    """

    recurrent: Float32
    context: Pcm16


@dataclass(frozen=True, slots=True)
class VadRequest:
    """The next windows of one stream: int16 `(num_windows * 512,)`; `state` None starts anew."""

    samples: Pcm16
    state: VadState | None = None


@dataclass(frozen=True, slots=True)
class VadResult:
    """Speech probability per window, float32 `(num_windows,)`, and the state after the last one."""

    probs: Float32
    state: VadState


@dataclass(frozen=True, slots=True)
class PackedRequests:
    """Several requests in four arrays: windows int16 `(total, 512)`, counts int32 `(n,)`,
    recurrent float32 `(n, ...)`, context int16 `(n, num_context_samples)`."""

    windows: npt.NDArray[np.int16]
    counts: npt.NDArray[np.int32]
    recurrent: Float32
    context: npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class PackedResults:
    """The answers to `PackedRequests`: probs float32 `(total,)`; counts, recurrent and context as there."""

    probs: Float32
    counts: npt.NDArray[np.int32]
    recurrent: Float32
    context: npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class StateShape:
    """What a detector's state looks like: needed where requests are packed, away from the model."""

    recurrent: tuple[int, ...]
    num_context_samples: int


SILERO_STATE: Final = StateShape((2, 128), 64)
WEBRTC_STATE: Final = StateShape((0,), 15 * WINDOW_SAMPLES)


class VoiceDetector(Protocol):
    """A voice activity model. Calls are pure: the same requests give the same results, in any grouping."""

    @property
    def window_samples(self) -> int: ...

    @property
    def state_shape(self) -> StateShape: ...

    def detect(self, requests: Sequence[VadRequest]) -> list[VadResult]:
        """One result per request, in order. Raises `ValueError` on samples that are no whole windows."""

    def detect_packed(self, batch: PackedRequests) -> PackedResults:
        """The same for requests that came packed."""


def pack_requests(requests: Sequence[VadRequest], shape: StateShape) -> PackedRequests:
    """Join requests into arrays. Raises `ValueError` on samples or states of a wrong shape."""
    for request in requests:
        if request.samples.dtype != np.int16 or len(request.samples) % WINDOW_SAMPLES:
            raise ValueError(
                f"expected whole windows of {WINDOW_SAMPLES} int16 samples, got "
                f"{request.samples.dtype} {request.samples.shape}"
            )
    num = len(requests)
    recurrent = np.zeros((num, *shape.recurrent), np.float32)
    context = np.zeros((num, shape.num_context_samples), np.int16)
    for row, request in enumerate(requests):
        if request.state is not None:
            _require_shape(request.state, shape)
            recurrent[row] = request.state.recurrent
            context[row] = request.state.context
    samples = [request.samples for request in requests]
    return PackedRequests(
        windows=(np.concatenate(samples) if samples else np.zeros(0, np.int16)).reshape(-1, WINDOW_SAMPLES),
        counts=np.array([len(piece) // WINDOW_SAMPLES for piece in samples], np.int32),
        recurrent=recurrent,
        context=context,
    )


def unpack_requests(batch: PackedRequests) -> list[VadRequest]:
    """The requests that were packed; samples are views of the batch."""
    ends = np.cumsum(batch.counts)
    return [
        VadRequest(
            batch.windows[end - count : end].reshape(-1), VadState(batch.recurrent[row], batch.context[row])
        )
        for row, (end, count) in enumerate(zip(ends, batch.counts, strict=True))
    ]


def unpack_results(results: PackedResults) -> list[VadResult]:
    """One result per request; copies, so that one session's state does not keep the whole batch alive."""
    ends = np.cumsum(results.counts)
    return [
        VadResult(
            results.probs[end - count : end].copy(),
            VadState(results.recurrent[row].copy(), results.context[row].copy()),
        )
        for row, (end, count) in enumerate(zip(ends, results.counts, strict=True))
    ]


def _require_shape(state: VadState, shape: StateShape) -> None:
    got = (state.recurrent.shape, state.context.shape)
    wanted = (shape.recurrent, (shape.num_context_samples,))
    if got != wanted:
        raise ValueError(f"expected a state of shapes {wanted}, got {got}")


def loudness(samples: Pcm16) -> list[float]:
    """How loud each window of int16 `(n * 512,)` samples is, in place of probabilities where the detector is
    off: its root mean square in [0, 1]."""
    windows = samples.astype(np.float32).reshape(-1, WINDOW_SAMPLES) / FULL_SCALE
    return [float(value) for value in np.sqrt(np.mean(windows * windows, axis=1))]
