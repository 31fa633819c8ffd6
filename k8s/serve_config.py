"""serveConfigV2 of the RayService, made from the same files that `sotto serve` and `serve deploy` read.

    python -m k8s.serve_config             writes components/graph-*/serve_config.yaml, and multi-gpu's
    python -m k8s.serve_config --check     says whether they are up to date (exit status 1 if not)

Two values differ inside a cluster: the address, since traffic comes from other pods, and where proxies run,
since the head takes none. For many cards what sessions hang on is there twice, and speakers have a card apart
(`serve_app.launch.many_cards`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from serve_app.launch.many_cards import many_cards

ROOT = Path(__file__).parent
SOURCES = {"graph-gpu": "serve_config.yaml", "graph-cpu": "serve_config.cpu.yaml"}
"""Component to the file that its graph is declared in, at the top of the repository."""

IN_CLUSTER: dict[tuple[str, ...], Any] = {
    ("proxy_location",): "EveryNode",
    ("http_options", "host"): "0.0.0.0",
}

HEADER = "# Made from {source} by `python -m k8s.serve_config`; a test holds it up to date. Do not edit.\n"


def in_cluster(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the values that hold inside a cluster; order and all else as they are."""
    changed: dict[str, Any] = yaml.safe_load(yaml.safe_dump(config, sort_keys=False))
    for path, value in IN_CLUSTER.items():
        node = changed
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value
    return changed


def differences(one: Any, other: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where two configurations differ, lists item by item."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            if key not in one or key not in other:
                yield (*path, str(key))
            else:
                yield from differences(one[key], other[key], (*path, str(key)))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, (*path, str(index)))
    elif one != other:
        yield path


def patch_text(source: str, config: dict[str, Any]) -> str:
    """The patch that gives the RayService its serveConfigV2."""
    inner = yaml.safe_dump(in_cluster(config), sort_keys=False, width=100)
    indented = "".join(f"    {line}\n" for line in inner.splitlines())
    return (
        HEADER.format(source=source)
        + "apiVersion: ray.io/v1\nkind: RayService\nmetadata: {name: sotto}\nspec:\n  serveConfigV2: |\n"
        + indented
    )


def generated() -> dict[Path, str]:
    """Path to text of every file that this module makes."""
    files = {
        ROOT / "components" / component / "serve_config.yaml": patch_text(source, _read(source))
        for component, source in SOURCES.items()
    }
    source = SOURCES["graph-gpu"]
    files[ROOT / "overlays" / "multi-gpu" / "serve_config.yaml"] = patch_text(
        source, many_cards(_read(source))
    )
    return files


def _read(source: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT.parent / source).read_text())
    return config


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` compare them; the exit status."""
    stale = [path for path, text in generated().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        shown = path.relative_to(ROOT.parent)
        if "--check" in arguments:
            print(f"{shown} is not what serve_config*.yaml says: run python -m k8s.serve_config")
        else:
            path.write_text(generated()[path])
            print(f"wrote {shown}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
