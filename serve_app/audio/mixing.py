"""Several channels to one, so that what is said on them is heard.

The mean of two channels of opposite phase (a cable wired the wrong way round, a "stereo widener") is silence.
Blocks of 20 ms at fixed places of the stream are judged: where the mean has much less energy than channels
that have nothing to do with each other would give, the loudest channel is taken instead.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

BLOCKS_PER_S: Final = 50

_CANCELLED_SHARE: Final = 0.25
"""Of the energy that unrelated channels would give: two of equal loudness have 1, of equal phase 2."""
_SOUND_SHARE: Final = 0.5
_QUIET_ENERGY: Final = 1e-6
"""Under -60 dBFS nothing is judged: what was chosen before stays."""
_BLOCKS_TO_RETURN: Final = BLOCKS_PER_S // 2
_LOUDER_TO_CHANGE: Final = 4.0
_SHARE_TO_TELL: Final = 0.1
_BLOCKS_TO_TELL: Final = BLOCKS_PER_S // 5


class Downmix:
    """One stream's channels at their own rate; however it is cut into pieces, the result is the same."""

    def __init__(self, num_channels: int, rate_hz: int) -> None:
        self._block = max(1, rate_hz // BLOCKS_PER_S)
        self._planes: Samples = np.zeros((num_channels, 0), np.float32)
        self._mixed: Samples = np.zeros(0, np.float32)
        self._energies = np.zeros(num_channels)
        self._chosen: int | None = None
        self._num_sound = 0  # blocks in a row that do not cancel, while a channel is chosen
        self.num_judged = 0
        self.num_cancelled = 0

    def push(self, planes: Samples, mixed: Samples | None = None) -> Samples:
        """Take `(num_channels, n)` in [-1, 1] and what they should be mixed to, their mean where it is None;
        give the whole blocks that are there."""
        mixed = planes.mean(axis=0, dtype=np.float32) if mixed is None else mixed
        self._planes = np.concatenate([self._planes, planes], axis=1)
        self._mixed = np.concatenate([self._mixed, mixed])
        num_blocks = len(self._mixed) // self._block
        return self._take(num_blocks, num_blocks * self._block)

    def finish(self) -> Samples:
        """The last, incomplete block."""
        return self._take(1, len(self._mixed)) if len(self._mixed) else self._mixed

    def _take(self, num_blocks: int, length: int) -> Samples:
        if num_blocks == 0:
            return np.zeros(0, np.float32)
        planes, mixed = self._planes[:, :length], self._mixed[:length].copy()
        self._planes, self._mixed = self._planes[:, length:], self._mixed[length:]
        blocks = planes.reshape(len(planes), num_blocks, -1).astype(np.float64)
        energies = np.mean(blocks**2, axis=2).T
        means = np.mean(blocks.mean(axis=0) ** 2, axis=1)
        size = length // num_blocks
        for index in range(num_blocks):
            chosen = self._judge(energies[index], float(means[index]))
            if chosen is not None:
                place = slice(index * size, (index + 1) * size)
                mixed[place] = planes[chosen, place]
        return mixed

    def _judge(self, energies: npt.NDArray[np.float64], mean: float) -> int | None:
        """The channel to take for this block; None: the mix."""
        if float(energies.max()) < _QUIET_ENERGY:
            return self._chosen
        self.num_judged += 1
        unrelated = float(energies.sum()) / len(energies) ** 2
        self._energies = 0.9 * self._energies + 0.1 * energies
        if mean < _CANCELLED_SHARE * unrelated:
            self.num_cancelled += 1
            self._num_sound = 0
            loudest = int(np.argmax(self._energies))
            if (
                self._chosen is None
                or self._energies[loudest] > _LOUDER_TO_CHANGE * self._energies[self._chosen]
            ):
                self._chosen = loudest
        elif self._chosen is not None and mean >= _SOUND_SHARE * unrelated:
            self._num_sound += 1
            if self._num_sound >= _BLOCKS_TO_RETURN:
                self._chosen, self._num_sound = None, 0
        return self._chosen


def is_worth_telling(num_cancelled: int, num_judged: int) -> bool:
    """Whether channels cancelled each other for long enough that a person should hear of it."""
    return num_cancelled >= _BLOCKS_TO_TELL and num_cancelled >= _SHARE_TO_TELL * num_judged
