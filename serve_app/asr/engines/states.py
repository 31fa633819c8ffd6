"""Encoder states of a batch, and silence behind them whose keys and values are made only once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from serve_app.asr.features import FloatArray

Array = TypeVar("Array")


class AudioModel(Protocol[Array]):
    """What a model makes of audio, in its own arrays, evaluated where it is lazy."""

    def encode(self, features: FloatArray) -> Array:
        """States `(batch, num_frames / 2, width)` of features `(batch, num_mels, num_frames)`."""

    def project(self, states: Array) -> Array:
        """Keys and values of states for all of the decoder's layers, `(..., batch, num_heads, num_states,
        head_width)`."""

    def take(self, states: Array, rows: Sequence[int]) -> Array:
        """Some items' states, in this order."""

    def join(self, projected: Array, silence: Array) -> Array:
        """Keys and values with those of silence (one item) behind each item's own."""


@dataclass(frozen=True, slots=True, eq=False)
class SplicedStates(Generic[Array]):
    """`own` `(batch, num_own, width)`, then, where there is `silence`, its states from `num_own` on, up to
    `num_states` in all. Keys and values are made once: those of silence with the silence, those of audio for
    both its text and its alignment."""

    model: AudioModel[Array]
    own: Array
    silence: SplicedStates[Array] | None = None
    num_spliced: int = 0
    _projected: list[Array] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def batch_size(self) -> int:
        return int(_shape(self.own)[0])

    @property
    def num_states(self) -> int:
        return int(_shape(self.own)[1]) + self.num_spliced

    def splice(self, silence: SplicedStates[Array], num_states: int) -> SplicedStates[Array]:
        """Raises ValueError where the silence is no single item, or too short."""
        num_spliced = num_states - self.num_states
        if num_spliced <= 0:
            return self
        if self.silence is not None:
            raise ValueError("these states have silence behind them already")
        if silence.batch_size != 1 or silence.num_states < num_states:
            raise ValueError(f"the silence must be one item of at least {num_states} states")
        return SplicedStates(self.model, self.own, silence, num_spliced, self._projected, self._lock)

    def take(self, rows: Sequence[int]) -> SplicedStates[Array]:
        return SplicedStates(self.model, self.model.take(self.own, rows), self.silence, self.num_spliced)

    def project(self) -> Array:
        """Keys and values of all states, as the model gives them."""
        projected = self._kept()
        if self.silence is None:
            return projected
        silence: Any = self.silence._kept()
        num_own = self.num_states - self.num_spliced
        return self.model.join(projected, silence[..., num_own : self.num_states, :])

    def _kept(self) -> Array:
        with self._lock:
            if not self._projected:
                self._projected.append(self.model.project(self.own))
            return self._projected[0]


def _shape(array: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = array.shape
    return shape
