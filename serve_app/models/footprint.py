"""How large a model is, in memory and on disk: computed from its shape, measured, or published.

The three are kept apart, since they answer different questions: weights alone, a whole process, and what
others advise. Megabytes are 10^6 bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

MAX_STATES = 1_500
"""Positions of every Whisper encoder's output: 30 s (arXiv:2212.04356, section 2.2)."""
SECONDS_PER_STATE = 0.02
MAX_TEXT_POSITIONS = 448
"""Positions of its decoder: previous text, start sequence and answer together."""
_FOUR_BYTE_VALUES = frozenset({"float32", "int8", "int8_float32", "int16"})
CARD_HEADROOM_GB = 1.0
"""CUDA's own context, encoder states and a batch of beams, beside the weights."""


class Precision(StrEnum):
    """How weights are kept in memory; with int8 the matrices are, the rest is float32."""

    INT8 = "int8"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


def value_bytes(compute_type: str) -> int:
    """Bytes of one activation: int8 alone computes everything else in float32. Types that are not known
    (auto) count as float16."""
    return 4 if compute_type in _FOUR_BYTE_VALUES else 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """A Whisper model's shape, from which its parameters follow (arXiv:2212.04356, table 1)."""

    width: int
    num_encoder_layers: int
    num_decoder_layers: int
    vocabulary_size: int
    num_mels: int

    @property
    def num_matrix_parameters(self) -> int:
        """In the matrices of attention, feed-forward layers and the vocabulary: what int8 makes small."""
        encoder = 12 * self.num_encoder_layers * self.width**2
        decoder = 16 * self.num_decoder_layers * self.width**2
        return encoder + decoder + self.vocabulary_size * self.width

    @property
    def num_parameters(self) -> int:
        """All of them, stored positions included; the vocabulary is projected with the embedding."""
        width = self.width
        biases_and_norms = (12 * self.num_encoder_layers + 17 * self.num_decoder_layers + 4) * width
        convolutions = 3 * self.num_mels * width + 3 * width**2 + 2 * width
        positions = (MAX_STATES + MAX_TEXT_POSITIONS) * width
        return self.num_matrix_parameters + biases_and_norms + convolutions + positions

    def weights_bytes(self, compute_type: str) -> int:
        """The weights alone in memory, computed: of the int8 types the matrices take a byte a value, the rest
        as the activations do."""
        num_matrix = self.num_matrix_parameters
        rest = self.num_parameters - num_matrix
        value = value_bytes(compute_type)
        matrix = 1 if compute_type.startswith("int8") else 2 if compute_type == "int16" else value
        return num_matrix * matrix + rest * value

    def weights_mb(self, precision: Precision) -> int:
        """The weights alone in memory, computed."""
        return round(self.weights_bytes(precision) / 1e6)

    @property
    def min_vram_gb(self) -> float:
        """A card with this much free holds the float16 weights and what is needed beside them; computed, in
        halves."""
        return math.ceil(2 * (self.weights_mb(Precision.FLOAT16) / 1e3 + CARD_HEADROOM_GB)) / 2


@dataclass(frozen=True, slots=True)
class Measured:
    """Growth of a process's resident memory: by loading, and by loading and decoding one 30 s window.

    CTranslate2 4.8.5 on x86-64 with AVX2, one thread, beam size 5, in a fresh process each time.
    """

    loaded_mb: int
    decoding_mb: int


@dataclass(frozen=True, slots=True)
class Published:
    """What others have published of a model; their hardware and engines differ, so these are orders of size.

    `relative_speed`: against their large model (OpenAI: an A100, English; Distil-Whisper's own runs for the
    distilled ones, which cannot be compared with OpenAI's). `pytorch_vram_gb`: OpenAI's need of the original
    implementation. `vram_mb`: lowest and highest figure of deployment guides for CTranslate2 and MLX.
    `cpu_rtf`, `gpu_rtf`: seconds of work per second of audio.
    """

    relative_speed: float | None = None
    pytorch_vram_gb: int | None = None
    disk_mb: int | None = None
    vram_mb: tuple[int, int] | None = None
    cpu_rtf: float | None = None
    gpu_rtf: float | None = None


MEASURED: dict[tuple[str, Precision], Measured] = {
    ("tiny.en", Precision.INT8): Measured(66, 121),
    ("tiny.en", Precision.FLOAT32): Measured(166, 206),
    ("base", Precision.INT8): Measured(123, 171),
    ("base", Precision.FLOAT32): Measured(314, 390),
}

_TINY = Published(10, 1, 75, (150, 150), 0.3, 0.05)
_BASE = Published(7, 1, 142, (200, 500), 0.5, 0.08)
_SMALL = Published(4, 2, 488, (500, 1_000), 1.5, 0.15)
_MEDIUM = Published(2, 5, 1_500, (1_500, 2_000), 5.0, 0.4)

PUBLISHED: dict[str, Published] = {
    "tiny": _TINY,
    "tiny.en": _TINY,
    "base": _BASE,
    "base.en": _BASE,
    "small": _SMALL,
    "small.en": _SMALL,
    "medium": _MEDIUM,
    "medium.en": _MEDIUM,
    "large-v1": Published(1, 10),
    "large-v2": Published(1, 10),
    "large-v3": Published(1, 10, 3_100, (3_000, 4_000), 15.0, 1.0),
    "large-v3-turbo": Published(8, 6, vram_mb=(1_500, 1_500)),
    "distil-small.en": Published(5.6),
    "distil-medium.en": Published(6.8),
    "distil-large-v2": Published(5.8),
    "distil-large-v3": Published(6.3, vram_mb=(2_000, 2_000)),
    "distil-large-v3.5": Published(6.4),
}
