"""Encoder states of a batch on their device, and silence behind them that is projected only once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from serve_app.asr.engines.torch_model import TorchWhisper


@dataclass(frozen=True, slots=True, eq=False)
class TorchStates:
    """`own` `(batch, num_own, width)`, then, where there is `silence`, its states from `num_own` on, up to
    `num_states` in all.

    The decoder's keys and values of silence are the same behind every window, so they are made once, with
    the silence, and not again for each window.
    """

    own: Tensor
    silence: TorchStates | None = None
    num_spliced: int = 0
    _projected: list[Tensor] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def batch_size(self) -> int:
        return len(self.own)

    @property
    def num_states(self) -> int:
        return int(self.own.shape[1]) + self.num_spliced

    def splice(self, silence: TorchStates, num_states: int) -> TorchStates:
        """Raises ValueError where the silence is no single item, or too short."""
        num_spliced = num_states - self.num_states
        if num_spliced <= 0:
            return self
        if self.silence is not None:
            raise ValueError("these states have silence behind them already")
        if silence.batch_size != 1 or silence.own.shape[1] < num_states:
            raise ValueError(f"the silence must be one item of at least {num_states} states")
        return TorchStates(self.own, silence, num_spliced)

    def take(self, rows: Sequence[int]) -> TorchStates:
        chosen = torch.tensor(list(rows), dtype=torch.int64, device=self.own.device)
        return TorchStates(self.own[chosen], self.silence, self.num_spliced)

    def project(self, model: TorchWhisper) -> Tensor:
        """Keys and values as the decoder's layers read them, `(num_layers, 2, batch, num_heads, num_states,
        head_width)`, contiguous."""
        projected = model.project(self.own)
        if self.silence is None:
            return projected.contiguous()
        num_own, num_all = self.own.shape[1], self.num_states
        out = projected.new_empty((*projected.shape[:4], num_all, projected.shape[5]))
        out[..., :num_own, :] = projected
        out[..., num_own:, :] = self.silence._kept(model)[..., num_own:num_all, :]
        return out

    def _kept(self, model: TorchWhisper) -> Tensor:
        with self._lock:
            if not self._projected:
                self._projected.append(model.project(self.own).contiguous())
            return self._projected[0]
