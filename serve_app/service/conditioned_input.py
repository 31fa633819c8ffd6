"""What happens to a session's sound before its buffer: conditioning, and a look at its level."""

from __future__ import annotations

from serve_app.audio.conditioning import Conditioner, ConditioningOptions
from serve_app.audio.levels import LevelMeter
from serve_app.core.events import SoundWarning
from serve_app.core.samples import Pcm16


class ConditionedInput:
    """One stream. Sample in, sample out; warnings are about the sound as it came. A resumed session's filters
    and meters begin anew at its `first_sample`."""

    def __init__(self, options: ConditioningOptions, *, warn: bool, first_sample: int = 0) -> None:
        self._first_sample = first_sample
        self._conditioner = Conditioner(options) if options.any else None
        self._meter = LevelMeter() if warn else None

    def take(self, samples: Pcm16) -> tuple[Pcm16, list[SoundWarning]]:
        """Int16 `(n,)` at 16 kHz to as many samples, and what is wrong with them."""
        found = self._meter.push(samples) if self._meter is not None else []
        warnings = [
            SoundWarning(problem.kind.value, self._first_sample + problem.at_sample, problem.value)
            for problem in found
        ]
        if self._conditioner is None:
            return samples, warnings
        return self._conditioner.process(samples), warnings
