"""Every query asks for metrics that are served, and parses; both names of a family lead to one.

Queries are parsed by promql-parser where it is installed. Without it only the names in them are compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec

from k8s.check.manifests import Manifest, Problem, of_kind, problem
from k8s.check.wiring_rules import ray_source
from serve_app.telemetry.exposition import EXPORTER_PREFIX
from serve_app.telemetry.families import FAMILIES, Kind

HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")
OUR_NAMES = re.compile(r"\b(?:ray_|stt_|whisper_)\w+")
RAY_SOURCES = (
    "serve/_private/deployment_state.py",
    "serve/_private/replica.py",
    "dashboard/modules/reporter/reporter_agent.py",
)
"""Where Ray names the metrics that are used here; its exporters put `ray_` before them."""

RECORDED = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
OF_A_RULE = re.compile(r"\bsotto:[a-zA-Z0-9_:]+")
"""Names with colons are those of recording rules, by Prometheus' convention."""
GRAFANA_VARIABLES = {"$__rate_interval": "5m"}


def monitoring_problems(manifests: Sequence[Manifest]) -> Iterator[Problem]:
    recorded = set(recorded_names(manifests))
    for owner, title, query in queries(manifests):
        for message in query_faults(query):
            yield problem(owner, f"{title}: {message}")
        for name in sorted(set(OF_A_RULE.findall(query)) - recorded):
            yield problem(owner, f"{title}: nothing records {name}")
    for rules in of_kind(manifests, "PrometheusRule"):
        yield from _rules(rules)
    for monitor in of_kind(manifests, "PodMonitor"):
        yield from _monitor(monitor)


def recorded_names(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What recording rules make."""
    for rules in of_kind(manifests, "PrometheusRule"):
        for group in rules["spec"].get("groups") or ():
            yield from (str(rule["record"]) for rule in group.get("rules") or () if "record" in rule)


def queries(manifests: Sequence[Manifest]) -> Iterator[tuple[Manifest, str, str]]:
    """(object, rule or panel, query) of all alert rules and dashboards."""
    for rules in of_kind(manifests, "PrometheusRule"):
        for group in rules["spec"].get("groups") or ():
            for rule in group.get("rules") or ():
                yield rules, str(rule.get("alert") or rule.get("record")), str(rule["expr"])
    for data in of_kind(manifests, "ConfigMap"):
        for name, text in (data.get("data") or {}).items():
            if name.endswith(".json"):
                for panel in json.loads(text)["panels"]:
                    for target in panel.get("targets") or ():
                        yield data, f"{name} {panel['title']}", target["expr"]


def query_faults(query: str) -> Iterator[str]:
    for variable, value in GRAFANA_VARIABLES.items():
        query = query.replace(variable, value)
    fault = _syntax_fault(query)
    if fault is not None:
        yield f"{fault} in {query}"
    without_strings = re.sub(r'"[^"]*"', '""', query)
    for name in sorted(set(OUR_NAMES.findall(without_strings))):
        if name not in served_names():
            yield f"no metric is called {name}"


def parser_is_there() -> bool:
    return find_spec("promql_parser") is not None


def _syntax_fault(query: str) -> str | None:
    if not parser_is_there():
        return None
    import promql_parser

    try:
        promql_parser.parse(query)
    except ValueError as error:
        return str(error)
    return None


@cache
def served_names() -> frozenset[str]:
    """The samples of our families, and Ray's own that are used here, as Prometheus sees them."""
    ours: set[str] = set()
    for family in FAMILIES:
        suffixes = HISTOGRAM_SUFFIXES if family.kind is Kind.HISTOGRAM else ("",)
        ours |= {family.name + suffix for suffix in suffixes}
    of_ray = re.findall(r'"((?:serve|node)_[a-z_]+)"', ray_source(*RAY_SOURCES))
    return frozenset(ours | {EXPORTER_PREFIX + name for name in of_ray})


def _rules(rules: Manifest) -> Iterator[Problem]:
    seen: set[str] = set()
    for group in rules["spec"].get("groups") or ():
        for rule in group.get("rules") or ():
            name = str(rule.get("alert") or rule.get("record"))
            if name in seen:
                yield problem(rules, f"two rules are called {name}")
            seen.add(name)
            if "record" in rule and not RECORDED.fullmatch(name):
                yield problem(rules, f"{name} cannot be recorded under that name")
            if "alert" in rule:
                if (rule.get("labels") or {}).get("severity") not in ("warning", "critical"):
                    yield problem(rules, f"{name}: severity is neither warning nor critical")
                if not (rule.get("annotations") or {}).get("summary"):
                    yield problem(rules, f"{name}: no summary")
                if not (rule.get("annotations") or {}).get("runbook_url"):
                    yield problem(rules, f"{name}: no runbook_url")


def _monitor(monitor: Manifest) -> Iterator[Problem]:
    for endpoint in monitor["spec"].get("podMetricsEndpoints") or ():
        if endpoint.get("port") != "metrics":
            yield problem(monitor, f"port {endpoint.get('port')} is not Ray's exporter")
        for family in FAMILIES:
            shown = relabelled(EXPORTER_PREFIX + family.name, endpoint.get("metricRelabelings") or ())
            if shown != family.name:
                yield problem(monitor, f"{EXPORTER_PREFIX}{family.name} becomes {shown}, not {family.name}")


def relabelled(name: str, rules: Sequence[Manifest]) -> str | None:
    """What a metric is called after these relabellings, None where it is dropped (Prometheus' own rules:
    the whole value must match)."""
    for rule in rules:
        if rule.get("sourceLabels") != ["__name__"]:
            continue
        match = re.fullmatch(str(rule.get("regex", "(.*)")), name)
        action = rule.get("action", "replace")
        if (action == "keep" and match is None) or (action == "drop" and match is not None):
            return None
        if action == "replace" and match is not None and rule.get("targetLabel") == "__name__":
            name = match.expand(re.sub(r"\$\{?(\d+)\}?", r"\\\1", str(rule.get("replacement", "$1"))))
    return name
