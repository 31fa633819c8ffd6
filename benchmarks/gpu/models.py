"""Whisper models of true shapes with random weights, for measuring speed and memory where no real ones are.

A CTranslate2 folder in float16, which CTranslate2 and our own engines read. Their text is noise; what they
cost is what the real ones cost, as long as the number of tokens is set from outside.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ctranslate2.specs.model_spec import visit_spec
from ctranslate2.specs.whisper_spec import WhisperSpec
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from serve_app.capacity.card_memory import HEAD_WIDTH
from serve_app.models.footprint import MAX_STATES, MAX_TEXT_POSITIONS, Architecture
from serve_app.models.languages import codes_of

_NUM_TIMES = 1501
_TASKS = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
_CANTONESE_VOCABULARY = 51_866
_FIRST_MULTILINGUAL = 51_865


def write_random_model(folder: Path, shape: Architecture, *, seed: int = 0) -> Path:
    """Write model.bin and the files beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = _tokens(shape.vocabulary_size)
    num_heads = max(1, shape.width // HEAD_WIDTH)
    spec = WhisperSpec(shape.num_encoder_layers, num_heads, shape.num_decoder_layers, num_heads)
    _fill(spec, shape, np.random.default_rng(seed))
    first_language = tokens.index("<|startoftranscript|>") + 1
    last = shape.num_decoder_layers - 1
    spec.config.alignment_heads = [[last, head] for head in range(min(num_heads, 6))]
    spec.config.lang_ids = list(range(first_language, tokens.index("<|translate|>")))
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [tokens.index("<|endoftext|>")]
    spec.register_vocabulary(tokens)
    spec.validate()
    spec.decoder.projection.weight = "decoder/embeddings/weight"  # an alias
    spec.save(str(folder))
    _write_tokenizer(folder / "tokenizer.json", tokens)
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": shape.num_mels}))
    return folder


def _tokens(vocabulary_size: int) -> list[str]:
    """Names in Whisper's order, whose ids engines count on; text tokens are made up. The empty one is what
    CTranslate2 knows a multilingual model by."""
    num_languages = 100 if vocabulary_size == _CANTONESE_VOCABULARY else 99
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    special += [f"<|{code}|>" for code in codes_of(num_languages)]
    special += [f"<|{name}|>" for name in _TASKS]
    times = [f"<|{0.02 * step:.2f}|>" for step in range(_NUM_TIMES)]
    num_text = vocabulary_size - len(special) - len(times)
    if num_text < 2:
        raise ValueError(f"a vocabulary of {vocabulary_size} leaves no text tokens")
    text = [f"t{index}" for index in range(num_text)]
    if vocabulary_size >= _FIRST_MULTILINGUAL:
        text[-1] = ""
    return [*text, *special, *times]


def _write_tokenizer(file: Path, tokens: list[str]) -> None:
    first_special = tokens.index("<|endoftext|>")
    vocabulary = {token: index for index, token in enumerate(tokens[:first_special])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in tokens[first_special:]])
    tokenizer.save(str(file))


def _fill(spec: Any, shape: Architecture, rng: np.random.Generator) -> None:
    """Matrices with random values, of a size that keeps that of hidden values from layer to layer; biases
    with zeros, norms with ones."""
    width = shape.width
    sizes = {
        "encoder/conv1": (width, shape.num_mels, 3),
        "encoder/conv2": (width, width, 3),
        "encoder/position_encodings": (MAX_STATES, width),
        "decoder/position_encodings": (MAX_TEXT_POSITIONS, width),
        "decoder/embeddings": (shape.vocabulary_size, width),
        "self_attention/linear_0": (3 * width, width),
        "self_attention/linear_1": (width, width),
        "attention/linear_0": (width, width),
        "attention/linear_1": (2 * width, width),
        "attention/linear_2": (width, width),
        "ffn/linear_0": (4 * width, width),
        "ffn/linear_1": (width, 4 * width),
    }
    pools: dict[int, npt.NDArray[np.float16]] = {}

    def random(size: tuple[int, ...]) -> npt.NDArray[np.float16]:
        """Views of one pool for each number of inputs: a large model's values would take minutes to draw."""
        fan_in, num_values = int(np.prod(size[1:])), int(np.prod(size))
        if fan_in not in pools or len(pools[fan_in]) < num_values:
            values = rng.standard_normal(num_values, dtype=np.float32) * fan_in**-0.5
            pools[fan_in] = values.astype(np.float16)
        return pools[fan_in][:num_values].reshape(size)

    def set_variable(part: Any, name: str, _: object) -> None:
        place, _, leaf = name.rpartition("/")
        size = sizes.get("/".join(place.split("/")[-2:]))
        if leaf in ("gamma", "beta"):
            setattr(part, leaf, np.full(width, leaf == "gamma", np.float16))
        elif size is not None and leaf in ("weight", "encodings"):
            setattr(part, leaf, random(size))
        elif size is not None and leaf == "bias":
            part.bias = np.zeros(size[0], np.float16)
        elif name == "decoder/projection/weight":
            part.weight = spec.decoder.embeddings.weight

    visit_spec(spec, set_variable)
