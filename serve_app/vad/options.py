"""When an utterance begins and ends: what a client may choose, with bounds, defaults and meanings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Meta

VadEnabled: TypeAlias = Annotated[
    bool, Meta(description="Find speech; off: finals on flush, end and maximum utterance only.")
]
VadThreshold: TypeAlias = Annotated[
    float, Meta(ge=0.0, le=1.0, description="Probability from which audio counts as speech.")
]
MinSpeechMs: TypeAlias = Annotated[int, Meta(ge=0, le=10_000, description="Less speech than this is noise.")]
MAX_SILENCE_MS = 60_000
MinSilenceMs: TypeAlias = Annotated[
    int, Meta(ge=32, le=MAX_SILENCE_MS, description="Silence that ends an utterance.")
]
PreRollMs: TypeAlias = Annotated[int, Meta(ge=0, le=5_000, description="Audio kept before the first speech.")]
SpeechPadMs: TypeAlias = Annotated[int, Meta(ge=0, le=5_000, description="Audio kept after the last speech.")]
OverlapMs: TypeAlias = Annotated[
    int, Meta(ge=0, le=5_000, description="Audio decoded on both sides of a cut inside speech.")
]
MaxUtteranceMs: TypeAlias = Annotated[
    int, Meta(ge=1_000, le=30_000, description="Longer utterances are cut.")
]


@dataclass(frozen=True, slots=True)
class EndpointingOptions:
    """When an utterance begins and ends, in milliseconds of audio; thresholds are speech probabilities.

    An utterance opens with the first window at or over `threshold`, counts as speech once it holds
    `min_speech_ms` of voiced audio, and closes after `min_silence_ms` under `threshold - 0.15`. The cut
    keeps `pre_roll_ms` before and `speech_pad_ms` after. Longer ones are cut at `max_utterance_ms`, with
    `overlap_ms` of audio decoded on both sides of the cut.
    """

    enabled: VadEnabled = True
    threshold: VadThreshold = 0.5
    min_speech_ms: MinSpeechMs = 250
    min_silence_ms: MinSilenceMs = 500
    pre_roll_ms: PreRollMs = 200
    speech_pad_ms: SpeechPadMs = 200
    overlap_ms: OverlapMs = 200
    max_utterance_ms: MaxUtteranceMs = 30_000
