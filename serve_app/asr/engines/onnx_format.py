"""Writing ONNX graphs without the onnx package: the few records of its protobuf format that ours need.

A graph's large tensors lie in a file of their own beside it, which onnxruntime maps: processes on one host
share them, and a graph has no limit of 2 GB. Field numbers are those of onnx.proto3 (IR version 10).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

_IR_VERSION = 10
_OPSET_VERSION = 18
MICROSOFT = "com.microsoft"
"""The operators that onnxruntime has beyond the standard."""

_MAX_INLINE_BYTES = 1024
_PAGE_BYTES = 4096
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7}
_VARINT, _BYTES, _FIXED32 = 0, 2, 5
_EXTERNAL = 1
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_INTS = 1, 2, 7

Attribute: TypeAlias = float | int | Sequence[int]
Dimension: TypeAlias = int | str
"""A size, or the name of one that is known only when the graph runs."""


class GraphWriter:
    """One graph, node by node; values are named by strings. Tensors go to `data` as they are added."""

    def __init__(self, data: BinaryIO, data_name: str) -> None:
        """`data_name`: the file's name, as the graph beside it says it."""
        self._data = data
        self._data_name = data_name
        self._parts: list[bytes] = []
        self._num_names = 0

    def input(self, name: str, dtype: str, dimensions: Sequence[Dimension]) -> str:
        self._parts.append(_field(11, _value(name, dtype, dimensions)))
        return name

    def output(self, name: str, dtype: str, dimensions: Sequence[Dimension]) -> None:
        self._parts.append(_field(12, _value(name, dtype, dimensions)))

    def constant(self, array: npt.NDArray[Any]) -> str:
        """A tensor of the graph: float32, uint8, int8 or int64."""
        name = self._new_name("constant")
        content = np.ascontiguousarray(array)
        tensor = b"".join(_field(1, size) for size in content.shape)
        tensor += _field(2, _TYPES[content.dtype.name]) + _field(8, name.encode())
        if content.nbytes <= _MAX_INLINE_BYTES:
            tensor += _field(9, content.tobytes())
        else:
            self._data.write(bytes(-self._data.tell() % _PAGE_BYTES))
            place = {
                "location": self._data_name,
                "offset": str(self._data.tell()),
                "length": str(content.nbytes),
            }
            for key, value in place.items():
                tensor += _field(13, _field(1, key.encode()) + _field(2, value.encode()))
            tensor += _field(14, _EXTERNAL)
            self._data.write(content.data)
        self._parts.append(_field(5, tensor))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def node(
        self, kind: str, *inputs: str, outputs: Sequence[str] = (), domain: str = "", **attributes: Attribute
    ) -> str:
        """Add an operation; its first output, which gets a name where `outputs` gives none. An input "" is
        left out."""
        names = list(outputs) or [self._new_name(kind)]
        node = b"".join(_field(1, name.encode()) for name in inputs)
        node += b"".join(_field(2, name.encode()) for name in names)
        node += _field(4, kind.encode())
        node += b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())
        if domain:
            node += _field(7, domain.encode())
        self._parts.append(_field(1, node))
        return names[0]

    def several(self, kind: str, *inputs: str, num_outputs: int, **attributes: Attribute) -> list[str]:
        """The same for an operation with more than one output."""
        names = [self._new_name(kind) for _ in range(num_outputs)]
        self.node(kind, *inputs, outputs=names, domain="", **attributes)
        return names

    def model(self) -> bytes:
        """The file's content."""
        graph = b"".join(self._parts) + _field(2, b"whisper")
        standard = _field(1, b"") + _field(2, _OPSET_VERSION)
        microsoft = _field(1, MICROSOFT.encode()) + _field(2, 1)
        return _field(1, _IR_VERSION) + _field(7, graph) + _field(8, standard) + _field(8, microsoft)

    def _new_name(self, kind: str) -> str:
        self._num_names += 1
        return f"{kind}_{self._num_names}"


def _value(name: str, dtype: str, dimensions: Sequence[Dimension]) -> bytes:
    sizes = b"".join(
        _field(1, _field(1, size) if isinstance(size, int) else _field(2, size.encode()))
        for size in dimensions
    )
    tensor = _field(1, _TYPES[dtype]) + _field(2, sizes)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _attribute(name: str, value: Attribute) -> bytes:
    start = _field(1, name.encode())
    if isinstance(value, float):
        fixed = _varint(2 << 3 | _FIXED32) + struct.pack("<f", value)
        return start + fixed + _field(20, _ATTRIBUTE_FLOAT)
    if isinstance(value, int):
        return start + _field(3, value) + _field(20, _ATTRIBUTE_INT)
    return start + b"".join(_field(8, number) for number in value) + _field(20, _ATTRIBUTE_INTS)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
