"""serveConfigV2 of the RayService, made from the same files that `sotto serve` and `serve deploy` read.

    python -m k8s.serve_config             writes components/graph-*/serve_config.yaml, and multi-gpu's
    python -m k8s.serve_config --check     says whether they are up to date (exit status 1 if not)

Two values differ inside a cluster: the address, since traffic comes from other pods, and where proxies run,
since the head takes none. For many cards what sessions hang on is there twice, and speakers have a card apart
(`serve_app.launch.gpu_plan`).
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import yaml

from k8s import write_or_check
from serve_app.launch.deploy_config import PROFILE_FILES, DeployConfig, read_deploy_config
from serve_app.launch.gpu_plan import many_cards

ROOT = Path(__file__).parent
SOURCES = {f"graph-{profile}": name for profile, name in PROFILE_FILES.items()}
"""Component to the file that its graph is declared in, at the top of the repository."""

HEADER = "# Made from {source} by `python -m k8s.serve_config`; a test holds it up to date. Do not edit.\n"


def in_cluster(config: DeployConfig) -> DeployConfig:
    """`config` with the values that hold inside a cluster; order and all else as they are."""
    changed = copy.deepcopy(config)
    changed["proxy_location"] = "EveryNode"
    changed["http_options"] = {**(changed.get("http_options") or {}), "host": "0.0.0.0"}
    return changed


def patch_text(source: str, config: DeployConfig) -> str:
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


def _read(source: str) -> DeployConfig:
    return read_deploy_config(ROOT.parent / source)


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` compare them; the exit status."""
    return write_or_check(
        generated(), arguments, below=ROOT.parent, source="serve_config*.yaml", module="k8s.serve_config"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
