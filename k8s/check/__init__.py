"""Checks of the manifests that need no cluster: schemas, the operator's rules, Serve's, and our own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from k8s.check.edge_rules import edge_problems
from k8s.check.manifests import Manifest, Problem
from k8s.check.monitoring_rules import monitoring_problems
from k8s.check.operator_rules import operator_problems
from k8s.check.pod_rules import pod_problems
from k8s.check.schemas import schema_problems
from k8s.check.serve_rules import serve_problems
from k8s.check.wiring_rules import wiring_problems

RULES: tuple[Callable[[Sequence[Manifest]], Iterable[Problem]], ...] = (
    operator_problems,
    serve_problems,
    pod_problems,
    edge_problems,
    wiring_problems,
    monitoring_problems,
)


def problems(manifests: Sequence[Manifest]) -> list[Problem]:
    """What is wrong with them; the rules are asked only of manifests that fit their schemas."""
    misfits = list(schema_problems(manifests))
    return misfits or [found for rule in RULES for found in rule(manifests)]
