"""All checks of one overlay, in the order in which their words help most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from k8s.check.edge_rules import edge_problems
from k8s.check.monitoring_rules import monitoring_problems
from k8s.check.operator_rules import operator_problems
from k8s.check.pod_rules import pod_problems
from k8s.check.problem import Manifest, Problem
from k8s.check.schemas import schema_problems
from k8s.check.serve_rules import serve_problems
from k8s.check.wiring_rules import wiring_problems

CHECKS: dict[str, Callable[[Sequence[Manifest]], Iterable[Problem]]] = {
    "schemas": schema_problems,
    "operator": operator_problems,
    "serve": serve_problems,
    "pods": pod_problems,
    "edge": edge_problems,
    "wiring": wiring_problems,
    "monitoring": monitoring_problems,
}


def problems(manifests: Sequence[Manifest]) -> list[Problem]:
    """What is wrong with them; the rules are asked only of manifests that fit their schemas."""
    found = list(schema_problems(manifests))
    if found:
        return found
    return [each for name, check in CHECKS.items() if name != "schemas" for each in check(manifests)]
