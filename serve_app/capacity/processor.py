"""Which processor this is and what of its instructions matters to engines: what a measurement holds for."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_KNOWN = (
    *("avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)
"""In the kernel's own spelling; in the order in which they are named."""


@dataclass(frozen=True, slots=True)
class Processor:
    """`instructions` empty: the system does not say (Linux does)."""

    name: str
    machine: str
    instructions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.machine}; {' '.join(self.instructions) or 'instruction sets not known'})"


def this_processor(cpuinfo: Path = _CPUINFO) -> Processor:
    """The first of the machine's, as Linux describes it, elsewhere what Python knows."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    fields = dict(re.findall(r"^(model name|flags|Features)[ \t]*: *(.*)$", text.partition("\n\n")[0], re.M))
    here = set((fields.get("flags") or fields.get("Features") or "").split())
    name = fields.get("model name", "").strip() or platform.processor() or "a processor without a name"
    return Processor(name, platform.machine(), tuple(each for each in _KNOWN if each in here))
