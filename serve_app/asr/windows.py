"""How much of a window is encoded, how much silence is spliced behind it, and how many tokens it may give.

Whisper's encoder is made for 30 s. Given less it is far cheaper, but the decoder runs on into repeats
behind the last word, unless the encoder's states of silence stand behind the speech: then it stops
where the speech stops. Lengths are a function of the job alone, so that a result never depends on what it
was batched with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from serve_app.asr.features import FRAMES_PER_S, MAX_FRAMES, num_frames_of
from serve_app.models.footprint import MAX_STATES

FRAMES_PER_STATE = MAX_FRAMES // MAX_STATES
STATES_PER_S = FRAMES_PER_S // FRAMES_PER_STATE
MAX_AUDIO_S = MAX_FRAMES / FRAMES_PER_S

_TOKENS_BASE = 12
_TOKENS_PER_S = 8
_TOKENS_PER_S_DENSE = 24
_MAX_NEW_TOKENS = 224

# Languages whose words Whisper's byte pairs spell in about one token each; all others may need one a letter.
_COMPACT_LANGUAGES = frozenset(
    {"en", "de", "es", "fr", "it", "pt", "nl", "ca", "gl", "sv", "da", "no", "nn", "id", "ms"}
    | {"tl", "jw", "ru", "uk", "pl", "cs", "tr", "ja", "zh", "yue", "ko", "fi", "ro"}
)


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How one role's windows are cut, seconds of audio.

    `pad_s` of silence is encoded behind the speech, at least `floor_s` in all, rounded up to
    `bucket_frames`; `tail_s` of spliced silence follows. Audio of up to `short_s` is encoded in at least
    `short_floor_s`, of up to `lone_s` in all 30 s: a lone word is read worse in a short window. `full_window`
    encodes all 30 s in any case.
    """

    pad_s: float = 0.5
    floor_s: float = 1.0
    tail_s: float = 10.0
    bucket_frames: int = 2
    full_window: bool = False
    short_s: float = 0.0
    short_floor_s: float = 0.0
    lone_s: float = 0.0

    def __post_init__(self) -> None:
        if min(self.pad_s, self.floor_s, self.tail_s, self.short_s, self.short_floor_s, self.lone_s) < 0:
            raise ValueError("pad_s, floor_s, tail_s, short_s, short_floor_s and lone_s must be at least 0")
        if self.bucket_frames < 2 or self.bucket_frames % FRAMES_PER_STATE:
            raise ValueError(f"bucket_frames must be even and at least 2, got {self.bucket_frames}")


class Window(NamedTuple):
    """`num_frames` encoded, `num_states` handed to the decoder, `max_new_tokens` allowed."""

    num_frames: int
    num_states: int
    max_new_tokens: int


def plan_window(num_samples: int, language: str | None, policy: WindowPolicy) -> Window:
    """The window of one job; equal windows may share a batch."""
    if policy.full_window:
        return full_window(num_samples, language)
    own_frames = num_frames_of(num_samples)
    short = own_frames <= policy.short_s * FRAMES_PER_S
    floor_s = max(policy.floor_s, policy.short_floor_s) if short else policy.floor_s
    if policy.lone_s > 0 and own_frames <= policy.lone_s * FRAMES_PER_S:
        floor_s = MAX_AUDIO_S
    wanted = max(own_frames + policy.pad_s * FRAMES_PER_S, floor_s * FRAMES_PER_S, 2)
    num_frames = min(MAX_FRAMES, _round_up(wanted, policy.bucket_frames))
    num_states = min(MAX_STATES, num_frames // FRAMES_PER_STATE + round(policy.tail_s * STATES_PER_S))
    spoken_s = min(num_frames, _round_up(max(own_frames + policy.pad_s * FRAMES_PER_S, 2), 2)) / FRAMES_PER_S
    return Window(
        num_frames, num_states, max_tokens(spoken_s if short else num_frames / FRAMES_PER_S, language)
    )


def full_window(num_samples: int, language: str | None) -> Window:
    """All 30 s, as the model was trained."""
    whole_s = -(-num_samples // (FRAMES_PER_S * 160))
    return Window(MAX_FRAMES, MAX_STATES, max_tokens(whole_s, language))


def max_tokens(audio_s: float, language: str | None) -> int:
    """The most tokens that speech of this length takes; a loop is stopped by it."""
    rate = _TOKENS_PER_S if language in _COMPACT_LANGUAGES else _TOKENS_PER_S_DENSE
    return min(_MAX_NEW_TOKENS, int(_TOKENS_BASE + rate * audio_s))


def _round_up(value: float, step: int) -> int:
    return int(-(-value // step)) * step
