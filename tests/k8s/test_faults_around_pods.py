"""Faults at the edge, in what names what, and in monitoring that the check must name."""

from __future__ import annotations

import pytest
from planting import (
    Built,
    Planted,
    cluster,
    dashboard_query,
    drop,
    find,
    of,
    put,
    ruled,
    words_for,
    worker,
)

EDGE_FAULTS = [
    Planted(
        "cleartext",
        put(of("Gateway"), "spec", "listeners", 0, "protocol", "HTTP"),
        "answers without TLS",
    ),
    Planted(
        "a time-out of requests",
        put(of("HTTPRoute"), "spec", "rules", 1, "timeouts", "request", "15s"),
        "timeouts.request is not 0s",
    ),
    Planted("no time-out named", drop(of("HTTPRoute"), "spec", "rules", 1, "timeouts"), "is not 0s"),
    Planted(
        "another service",
        put(of("HTTPRoute"), "spec", "rules", 1, "backendRefs", 0, "name", "sotto"),
        "is not KubeRay's serve service",
    ),
    Planted(
        "another host",
        put(of("HTTPRoute"), "spec", "hostnames", ["other.example.com"]),
        "host other.example.com is no listener's",
    ),
    Planted(
        "silent streams are cut",
        put(of("BackendTrafficPolicy"), "spec", "timeout", "http", "streamIdleTimeout", "5m"),
        "streamIdleTimeout is under an hour",
    ),
    Planted(
        "buffered requests",
        put(of("BackendTrafficPolicy"), "spec", "requestBuffer", {"limit": "1Mi"}),
        "requestBuffer holds back",
    ),
    Planted(
        "compressed answers",
        put(of("BackendTrafficPolicy"), "spec", "compression", [{"type": "Gzip", "gzip": {}}]),
        "compression holds back",
    ),
    Planted(
        "Envoy's thousand connections",
        drop(of("BackendTrafficPolicy"), "spec", "circuitBreaker"),
        "circuitBreaker.maxConnections is under 10000",
    ),
    Planted(
        "no HTTP/2",
        put(of("ClientTrafficPolicy"), "spec", "tls", "alpnProtocols", ["http/1.1"]),
        "does not offer h2",
    ),
    Planted(
        "a policy for nothing",
        put(of("ClientTrafficPolicy"), "spec", "targetRefs", 0, "name", "edge"),
        "no Gateway is called edge",
    ),
    Planted(
        "an open port",
        put(of("NetworkPolicy", "sotto-ray"), "spec", "ingress", 1, {"ports": [{"port": 8000}]}),
        "a port is open to everybody",
    ),
    Planted(
        "everything may go out",
        put(of("NetworkPolicy", "sotto-ray"), "spec", "egress", 0, {}),
        "everything may go out",
    ),
    Planted(
        "nothing is closed",
        lambda each: each.remove(find(each, "NetworkPolicy", "sotto-default")),
        "nothing closes the namespace",
    ),
    Planted(
        "pods that no policy speaks of",
        lambda each: each.remove(find(each, "NetworkPolicy", "sotto-redis")),
        "no NetworkPolicy speaks of its pods",
    ),
    Planted(
        "a percentage of pods",
        put(of("PodDisruptionBudget"), "spec", "minAvailable", "50%"),
        "only a whole number as minAvailable",
    ),
    Planted(
        "a budget for one cluster",
        put(of("PodDisruptionBudget"), "spec", "selector", "matchLabels", "ray.io/cluster", "sotto-abc"),
        "changes with every upgrade",
    ),
]


WIRING_FAULTS = [
    Planted("another namespace", put(of("Job"), "metadata", "namespace", "default"), "namespace is default"),
    Planted(
        "no settings",
        lambda each: each.remove(find(each, "ConfigMap", "sotto-settings")),
        "no ConfigMap is called sotto-settings",
    ),
    Planted(
        "no volume",
        lambda each: each.remove(find(each, "PersistentVolumeClaim")),
        "no PersistentVolumeClaim is called sotto-models",
    ),
    Planted(
        "a volume that one node alone can mount",
        put(of("PersistentVolumeClaim"), "spec", "accessModes", ["ReadWriteOnce"]),
        "7 workers cannot share ReadWriteOnce",
    ),
    Planted(
        "a setting that is none",
        put(of("ConfigMap", "sotto-settings"), "data", "STT_FINAL_MODELL", "base"),
        "STT_FINAL_MODELL is no setting",
    ),
    Planted(
        "a value out of bounds",
        put(of("ConfigMap", "sotto-settings"), "data", "STT_MAX_BATCH_SIZE", "1000"),
        "STT_MAX_BATCH_SIZE = '1000'",
    ),
    Planted(
        "a variable that Ray does not know",
        put(of("ConfigMap", "sotto-ray"), "data", "RAY_SERVE_ENABLE_HAPROXY", "1"),
        "Ray knows no variable RAY_SERVE_ENABLE_HAPROXY",
    ),
    Planted(
        "a key that the Secret does not have",
        put(lambda each: worker(each)["env"][1]["valueFrom"]["secretKeyRef"], "key", "ticket_secret"),
        "has no key ticket_secret",
    ),
    Planted(
        "a Secret written out",
        lambda each: each.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": "sotto-keys",
                    "namespace": "sotto",
                    "labels": {"app.kubernetes.io/part-of": "sotto"},
                },
            }
        ),
        "a Secret is written out",
    ),
    Planted(
        "Ray open to everybody",
        put(cluster, "authOptions", "mode", "disabled"),
        "anyone in the cluster may run code on Ray",
    ),
]


MONITORING_FAULTS = [
    Planted(
        "an alert on no metric",
        ruled("expr", 'sum(stt_final_queue{queue_type="final"}) > 1'),
        "no metric is called stt_final_queue",
    ),
    Planted(
        "an alert on what no rule records",
        ruled("expr", "sotto:final_latency_second:p95 > 1"),
        "nothing records sotto:final_latency_second:p95",
    ),
    Planted(
        "a histogram without its suffix",
        ruled("expr", "histogram_quantile(0.95, stt_decode_duration_seconds)"),
        "no metric is called stt_decode_duration_seconds",
    ),
    Planted(
        "a panel of no metric",
        dashboard_query("sum(ray_node_gpu_load)"),
        "no metric is called ray_node_gpu_load",
    ),
    Planted("an alert of no weight", ruled("labels", {"severity": "page"}), "neither warning nor critical"),
    Planted("an alert without words", ruled("annotations", {}), "no summary"),
    Planted("an alert without a runbook", ruled("annotations", {"summary": "late"}), "no runbook_url"),
    Planted("two alerts of one name", ruled("alert", "SottoFinalQueueFull"), "two rules are called"),
    Planted(
        "names that keep Ray's prefix",
        put(of("PodMonitor"), "spec", "podMetricsEndpoints", 0, "metricRelabelings", []),
        "becomes ray_stt_active_connections",
    ),
    Planted(
        "metrics that are dropped",
        put(
            of("PodMonitor"), "spec", "podMetricsEndpoints", 0, "metricRelabelings", 0, "regex", "ray_stt_.+"
        ),
        "ray_whisper_cache_hits_total becomes None",
    ),
    Planted(
        "another port",
        put(of("PodMonitor"), "spec", "podMetricsEndpoints", 0, "port", "http"),
        "not Ray's exporter",
    ),
]


@pytest.mark.parametrize(
    "fault", [*EDGE_FAULTS, *WIRING_FAULTS, *MONITORING_FAULTS], ids=lambda fault: fault.name
)
def test_a_planted_fault_is_named(fault: Planted, built: Built) -> None:
    found = words_for(fault, built)
    assert any(fault.message in words for words in found), found


def test_a_query_that_does_not_parse_is_named(built: Built) -> None:
    pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    fault = Planted("", ruled("expr", "sum(stt_active_connections"), "")
    assert any("in sum(stt_active_connections" in words for words in words_for(fault, built))
