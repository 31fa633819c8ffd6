"""Whisper on CTranslate2: the default, on NVIDIA cards and CPUs.

Pitfalls of the library that shape this file: one bad item fails its whole batch; previous text must be
equally long within a batch and padding it is not neutral; unknown tokens silently become the end token, so
only ids are handed over; forced text counts as new tokens; `align` takes one start sequence for a whole
batch. It gives no attention, so AlignAtt cannot run on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np

from serve_app.asr.devices import choose_compute_type, choose_device
from serve_app.asr.engines.base import (
    Alignment,
    Capabilities,
    DecodeOptions,
    Dimensions,
    Hypothesis,
    Prompt,
)
from serve_app.asr.features import FloatArray
from serve_app.asr.folder import count_vocabulary
from serve_app.asr.ports import MAX_BEAM_SIZE, ModelToLoad
from serve_app.asr.vocabulary import language_code
from serve_app.asr.windows import FRAMES_PER_STATE
from serve_app.core.errors import ModelUnavailable
from serve_app.models.footprint import MAX_TEXT_POSITIONS

_MAX_NEW_TOKENS = MAX_TEXT_POSITIONS // 2
"""CTranslate2 gives half of `max_length` at most, forced text among it."""


def load(model: ModelToLoad) -> CTranslate2Engine:
    """The factory that `STT_ENGINE=ctranslate2` names."""
    return CTranslate2Engine(
        model.folder,
        device=model.device,
        compute_type=model.compute_type,
        num_workers=model.num_workers,
        threads=model.threads_per_worker,
    )


class CTranslate2Engine:
    """One Whisper model of a CTranslate2 folder; `num_workers` threads may call it at once."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = "auto",
        compute_type: str = "auto",
        num_workers: int = 1,
        threads: int = 1,
    ) -> None:
        """Load the model. Raises `ModelUnavailable` for a folder, device or type that cannot be used."""
        device = choose_device(device)
        compute_type = choose_compute_type(compute_type, device)
        try:
            self._model = ctranslate2.models.Whisper(
                str(path),
                device=device,
                compute_type=compute_type,
                inter_threads=num_workers,
                intra_threads=threads,
            )
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ModelUnavailable(f"the model in {path} cannot be loaded: {error}") from error
        self._to_cpu = device != "cpu"
        self.dimensions = Dimensions(
            num_mels=int(self._model.n_mels),
            vocabulary_size=count_vocabulary(path),
            multilingual=bool(self._model.is_multilingual),
        )
        self.capabilities = Capabilities(
            engine="ctranslate2",
            device=device,
            compute_type=compute_type,
            compute_types=tuple(sorted(ctranslate2.get_supported_compute_types(device))),
            batching=True,
            attention=False,
            mixed_prompts=False,
            short_windows=True,
            max_beam_size=MAX_BEAM_SIZE,
        )

    def encode(self, features: FloatArray) -> FloatArray:
        states: FloatArray = np.asarray(self._model.encode(_storage(features), to_cpu=self._to_cpu))
        return states

    def num_states(self, states: FloatArray) -> int:
        return int(states.shape[1])

    def splice(self, states: FloatArray, silence: FloatArray, num_states: int) -> FloatArray:
        own = states.shape[1]
        if own >= num_states:
            return states
        spliced = np.empty((len(states), num_states, states.shape[2]), dtype=states.dtype)
        spliced[:, :own] = states
        spliced[:, own:] = silence[:, own:num_states]
        return spliced

    def take(self, states: FloatArray, rows: Sequence[int]) -> FloatArray:
        taken: FloatArray = states[list(rows)]
        return taken

    def generate(
        self, states: FloatArray, prompts: Sequence[Prompt], options: DecodeOptions
    ) -> list[Hypothesis]:
        """Prompts' starts must be equally long. Raises ValueError for an attention limit."""
        if options.attention or any(prompt.attention_limit is not None for prompt in prompts):
            raise ValueError("CTranslate2 gives no attention")
        # What may not come first is held back from the first token behind forced text too, the end among it,
        # and that for the whole batch: so forced and free items are two batches.
        free = [row for row, prompt in enumerate(prompts) if not prompt.forced]
        if not free or len(free) == len(prompts):
            return self._generate(states, prompts, options)
        forced = [row for row, prompt in enumerate(prompts) if prompt.forced]
        found: dict[int, Hypothesis] = {}
        for rows in (free, forced):
            answers = self._generate(self.take(states, rows), [prompts[row] for row in rows], options)
            found.update(zip(rows, answers, strict=True))
        return [found[row] for row in range(len(prompts))]

    def _generate(
        self, states: FloatArray, prompts: Sequence[Prompt], options: DecodeOptions
    ) -> list[Hypothesis]:
        num_start = len(prompts[0].start)
        longest_forced = max(len(prompt.forced) for prompt in prompts)
        num_new = min(options.max_new_tokens + longest_forced, _MAX_NEW_TOKENS)
        sampling: dict[str, Any] = {}
        if options.temperature > 0:
            sampling = {"sampling_topk": 0, "sampling_temperature": options.temperature}
        answers = self._model.generate(
            _storage(states),
            [[*prompt.start, *prompt.forced] for prompt in prompts],
            beam_size=1 if sampling else options.beam_size,
            # CTranslate2 allows min(max_length / 2, max_length - num_start + 1) tokens, forced ones too.
            max_length=min(MAX_TEXT_POSITIONS, max(2 * num_new, num_new + num_start - 1)),
            return_scores=True,
            return_no_speech_prob=True,
            suppress_blank=bool(options.suppressed_first) and not longest_forced,
            suppress_tokens=list(options.suppressed),
            **sampling,
        )
        return [
            _hypothesis(answer, len(prompt.forced), options.max_new_tokens)
            for answer, prompt in zip(answers, prompts, strict=True)
        ]

    def detect_language(self, states: FloatArray, language_ids: Mapping[str, int]) -> list[dict[str, float]]:
        found = self._model.detect_language(_storage(states))
        return [
            {
                code: float(probability)
                for token, probability in item
                if (code := language_code(token)) in language_ids
            }
            for item in found
        ]

    def align(
        self,
        states: FloatArray,
        start: Sequence[int],
        texts: Sequence[Sequence[int]],
        num_states: Sequence[int],
    ) -> list[Alignment]:
        found = self._model.align(
            _storage(states),
            list(start),
            [list(text) for text in texts],
            [count * FRAMES_PER_STATE for count in num_states],
        )
        return [Alignment(tuple(item.alignments), tuple(item.text_token_probs)) for item in found]


def _storage(array: FloatArray) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _hypothesis(answer: Any, num_forced: int, max_new_tokens: int) -> Hypothesis:
    """CTranslate2's score is the sum over the new tokens and the end token, divided by the tokens that it
    gives back, forced ones among them, the end token not."""
    ids = tuple(answer.sequences_ids[0])
    num_new = len(ids) - num_forced
    ended = num_new < max_new_tokens
    return Hypothesis(
        ids=ids if ended else ids[: num_forced + max_new_tokens],
        sum_logprob=float(answer.scores[0]) * max(1, len(ids)),
        num_scored=num_new + 1,
        no_speech_prob=float(answer.no_speech_prob),
        ended=ended,
    )
