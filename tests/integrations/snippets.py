"""The examples of docs/api.md for a framework: what they build, with the doors under test for its address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
PORT_SHOWN = "127.0.0.1:8000"


def built_by_example(framework: str, port: int) -> dict[str, Any]:
    """The names that the page's only example with imports of `framework` leaves behind."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if re.search(rf"^from {framework}\b", block, re.MULTILINE)]
    assert PORT_SHOWN in code
    names: dict[str, Any] = {}
    exec(compile(code.replace(PORT_SHOWN, f"127.0.0.1:{port}"), str(PAGE), "exec"), names)
    return names
