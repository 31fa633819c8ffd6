"""The interface between recognition and what runs a Whisper model: encode, decode a batch, detect, align.

An engine knows tensors and token ids and nothing else: windows, prompts, guards and words are the
`Transcriber`'s, the same for every engine, so that one model gives one text wherever it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from serve_app.asr.features import FloatArray
from serve_app.asr.keyterms import KeytermTrie

States: TypeAlias = Any
"""Encoder states of a batch, `(batch, num_states, width)`, 20 ms each: an engine's own array type, where it
keeps them. Only the engine that made them takes them back."""


AUTO = frozenset({"", "auto", "default"})
"""What leaves the choice of a device or an arithmetic to the engine."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do with the model that it has loaded, as data.

    `attention`: it gives the encoder state that each new token attends to, which AlignAtt needs.
    `mixed_prompts`: previous texts of different lengths may share a batch. `short_windows`: it encodes less
    than 30 s (a dynamic audio context). `batching`: a batch costs less than its items one by one.
    `drafts`: it checks drafts; others take no notice of them. `terms`: it lifts terms in greedy search.
    """

    engine: str
    device: str
    compute_type: str
    compute_types: tuple[str, ...]
    batching: bool
    attention: bool
    mixed_prompts: bool
    short_windows: bool
    max_beam_size: int
    drafts: bool = False
    terms: bool = False


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What of the model's shape others must know."""

    num_mels: int
    vocabulary_size: int
    multilingual: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """How one item of a batch is begun.

    `start`: previous text, start of transcript, language, task and no-timestamps ids. `forced`: text that
    the answer begins with. `num_states` of the item hold its audio, what is behind them is silence;
    `attention_limit`: stop before the first new token that attends to this state or a later one. `draft`:
    what the answer probably goes on with behind `forced`. It changes no text, and saves time in engines that
    can check it; beams and samples do without. `terms` are to be expected, in engines that lift them; beams,
    samples and attention do without.
    """

    start: tuple[int, ...]
    num_states: int
    forced: tuple[int, ...] = ()
    attention_limit: int | None = None
    draft: tuple[int, ...] = ()
    terms: KeytermTrie | None = None


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What a whole batch has in common.

    `max_new_tokens`: of each item, its forced text not counted. `temperature` over 0 samples (with
    `beam_size` 1). `suppressed` ids never come; `suppressed_first` not as the first token of an answer
    without forced text. `attention`: give the attended states (engines that can). `alignment`: say where the
    tokens lie, where that comes with the search: engines that check drafts, for greedy answers.
    """

    beam_size: int = 1
    max_new_tokens: int = 224
    temperature: float = 0.0
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()
    attention: bool = False
    alignment: bool = False


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The answer for one item.

    `ids`: forced text included, end token not. `sum_logprob` of the `num_scored` new tokens, the end token
    among them where it was `ended`: False where the token or attention limit stopped it. `no_speech_prob`
    at the start of transcript. `attended`: the state that each of `ids` attends to most, forced ones
    included; empty unless asked for. `num_calls` of the decoder, 0: one for each scored token.
    `alignment` of `ids` with the states of the prompt; None: not known.
    """

    ids: tuple[int, ...]
    sum_logprob: float
    num_scored: int
    no_speech_prob: float
    ended: bool
    attended: tuple[int, ...] = ()
    num_calls: int = field(default=0, compare=False)
    alignment: Alignment | None = None

    @property
    def avg_logprob(self) -> float:
        return self.sum_logprob / max(1, self.num_scored)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the tokens of a text lie: a monotone path of (token index, state), with one row more than there
    are tokens (the end token), and each token's probability; empty where there is no audio or no text."""

    path: tuple[tuple[int, int], ...]
    token_probs: tuple[float, ...]


class Engine(Protocol):
    """One loaded model. Thread-safe: a recogniser's workers call it at the same time.

    Shapes: features float32 `(batch, num_mels, num_frames)`, an even number of frames up to 3000, two of
    them a state. Every method may raise RuntimeError, ValueError or MemoryError for a batch as a whole.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def dimensions(self) -> Dimensions: ...

    def encode(self, features: FloatArray) -> States:
        """The states of a batch, `num_frames / 2` each."""

    def num_states(self, states: States) -> int:
        """Length of the states of one item."""

    def splice(self, states: States, silence: States, num_states: int) -> States:
        """The same with `silence` (one item, 1,500 states) behind each item from its own end on, `num_states`
        in all; unchanged where they are that long already."""

    def take(self, states: States, rows: Sequence[int]) -> States:
        """Some items of a batch, in this order."""

    def generate(self, states: States, prompts: Sequence[Prompt], options: DecodeOptions) -> list[Hypothesis]:
        """One answer per item, in order; independent of what else is in the batch."""

    def detect_language(self, states: States, language_ids: Mapping[str, int]) -> list[dict[str, float]]:
        """Per item each language's probability, all of them together 1."""

    def align(
        self,
        states: States,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        num_states: Sequence[int],
    ) -> list[Alignment]:
        """Find each item's text in the first `num_states[i]` of its states.

        `start`: one start sequence for all (start of transcript, language, task), without no-timestamps.
        """
