"""Tensors out of CTranslate2's model.bin and out of safetensors files, as views of the mapped file.

A file is taken for hostile: every length in it is checked against the bytes there are before anything is
made. Of a safetensors file the library checks the header; the tensors are views of ours, since the library
copies them and cannot give bfloat16 to numpy (here it becomes float32).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

Tensor: TypeAlias = npt.NDArray[Any]

READABLE_VERSION = 6
VERSIONS_OF_THIS_HEADER = (4, 5, 6)
_MODEL_BIN_TYPES = ("<f4", "<i1", "<i2", "<i4", "<f2", "bfloat16")
"""By CTranslate2's number of the type."""

_SAFETENSORS_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "bfloat16"}
_MAX_VARIABLES = 100_000
_MAX_RANK = 8
_MAX_HEADER_BYTES = 16 << 20
"""The library allows 100 MB, and makes 20 bytes of memory of each."""
_SHORT = "it is cut short"


class _Cursor:
    """Numbers and strings out of a byte buffer, one behind the other; `ValueError` at its end."""

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self._data = data
        self.offset = 0

    @property
    def rest(self) -> int:
        return len(self._data) - self.offset

    def numbers(self, layout: str) -> tuple[int, ...]:
        layout = f"<{layout}"
        start = self.skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self._data.data, start)

    def string(self) -> str:
        (length,) = self.numbers("H")
        start = self.skip(length)
        return bytes(self._data[start : start + length]).rstrip(b"\0").decode("utf-8", errors="replace")

    def skip(self, num_bytes: int) -> int:
        """Go on by this number of bytes; returns where they begin."""
        start = self.offset
        if num_bytes > self.rest:
            raise ValueError(_SHORT)
        self.offset += num_bytes
        return start


def model_bin_shapes(file: Path) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the variables in a model.bin, its weights not looked at; None for a format whose header
    is not known (versions 4 to 6 are alike).

    Raises as `read_model_bin` does.
    """
    data = _mapped(file)
    cursor = _Cursor(data)
    if _version(cursor) not in VERSIONS_OF_THIS_HEADER:
        return None
    return {name: shape for name, shape, *_ in _headers(cursor)}


def read_model_bin(file: Path) -> dict[str, Tensor]:
    """The variables of a CTranslate2 Whisper model by their names there, aliases resolved; read-only views.

    Raises `ValueError` for a file that is cut short, forged or of another version, `OSError` for one that
    cannot be opened. Layout (version 6, little endian): u32 version, spec name, u32 revision, u32 number of
    variables; for each a name, u8 rank, u32 shape, u8 type, u32 byte count, bytes; then u32 number of
    aliases, for each its name and its target. A string has a u16 length, its closing zero counted.
    """
    data = _mapped(file)
    cursor = _Cursor(data)
    version = _version(cursor)
    if version != READABLE_VERSION:
        raise ValueError(f"it is of version {version}, expected {READABLE_VERSION}")
    tensors: dict[str, Tensor] = {}
    for name, shape, type_number, start, num_bytes in _headers(cursor):
        if type_number >= len(_MODEL_BIN_TYPES):
            raise ValueError(f"a variable is of the unknown type {type_number}")
        tensors[name] = _view(data, start, num_bytes, _MODEL_BIN_TYPES[type_number], shape)
    (num_aliases,) = cursor.numbers("I")
    for _ in range(_bounded(num_aliases)):
        alias, target = cursor.string(), cursor.string()
        if target not in tensors:
            raise ValueError("an alias has no target")
        tensors[alias] = tensors[target]
    return tensors


def _version(cursor: _Cursor) -> int:
    (version,) = cursor.numbers("I")
    return version


def _headers(cursor: _Cursor) -> Iterator[tuple[str, tuple[int, ...], int, int, int]]:
    """Behind the version: name, shape, number of the type, first byte and byte count of each variable."""
    spec_name = cursor.string()
    if spec_name != "WhisperSpec":
        raise ValueError(f"it is a {spec_name[:40] or 'nameless'} model, not Whisper")
    _revision, num_variables = cursor.numbers("II")
    for _ in range(_bounded(num_variables)):
        name = cursor.string()
        (rank,) = cursor.numbers("B")
        if rank > _MAX_RANK:
            raise ValueError(f"a variable has {rank} dimensions")
        shape = cursor.numbers(f"{rank}I")
        type_number, num_bytes = cursor.numbers("BI")
        yield name, shape, type_number, cursor.skip(num_bytes), num_bytes


def _bounded(count: int) -> int:
    if count > _MAX_VARIABLES:
        raise ValueError(f"it claims {count} variables")
    return count


class SafetensorEntry(NamedTuple):
    """One tensor of a safetensors file: where its bytes begin, and what they are."""

    name: str
    type_name: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int


def safetensors_entries(file: Path) -> Iterator[SafetensorEntry]:
    """The tensors of a safetensors file, in the order of their bytes; these are not looked at.

    Raises `ValueError` for a file that is cut short, forged or holds other types than floats, `OSError` for
    one that cannot be opened.
    """
    with file.open("rb") as source:
        header_bytes = int.from_bytes(source.read(8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"its header claims {header_bytes} bytes")
    start = 8 + header_bytes
    try:
        with safe_open(file, framework="numpy") as opened:
            # The library refuses files with gaps between tensors, or with bytes that belong to none.
            for name in opened.offset_keys():
                entry = opened.get_slice(name)
                kind, shape = entry.get_dtype(), tuple(entry.get_shape())
                if kind not in _SAFETENSORS_TYPES:
                    expected = ", ".join(_SAFETENSORS_TYPES)
                    raise ValueError(f"a tensor is of the type {kind}, expected {expected}")
                if len(shape) > _MAX_RANK:
                    raise ValueError(f"a tensor has {len(shape)} dimensions")
                type_name = _SAFETENSORS_TYPES[kind]
                num_bytes = math.prod(shape) * _stored_as(type_name).itemsize
                yield SafetensorEntry(name, type_name, shape, start, num_bytes)
                start += num_bytes
    except SafetensorError as error:
        raise ValueError(str(error)) from None


def read_safetensors(file: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, Tensor]:
    """The wanted tensors of a safetensors file by their names there, read-only views.

    Raises as `safetensors_entries` does.
    """
    data = _mapped(file)
    return {
        name: _view(data, start, num_bytes, type_name, shape)
        for name, type_name, shape, start, num_bytes in safetensors_entries(file)
        if wanted(name)
    }


def _mapped(file: Path) -> npt.NDArray[np.uint8]:
    """The bytes of a file, mapped and not read."""
    if file.stat().st_size == 0:
        raise ValueError(f"{_SHORT}, it is empty")
    return np.memmap(file, dtype=np.uint8, mode="r")


def _view(
    data: npt.NDArray[np.uint8], start: int, num_bytes: int, type_name: str, shape: tuple[int, ...]
) -> Tensor:
    """A tensor at `start` of `data`, not copied; bfloat16 comes as float32, which takes memory."""
    stored = _stored_as(type_name)
    num_values = math.prod(shape)
    if num_values * stored.itemsize != num_bytes:
        raise ValueError(f"a tensor of {num_values} values has {num_bytes} bytes")
    if num_values == 0:
        raise ValueError("a tensor is empty")
    values = np.frombuffer(data, stored, num_values, start).reshape(shape)
    if type_name != "bfloat16":
        return values
    return (values.astype(np.uint32) << 16).view(np.float32)


def _stored_as(type_name: str) -> np.dtype[Any]:
    return np.dtype("<u2" if type_name == "bfloat16" else type_name)
