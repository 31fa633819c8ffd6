"""Grafana's dashboards as tables of panels, made into JSON that Grafana, and a compose file, can load.

    python -m k8s.dashboards               writes components/monitoring/dashboards/*.json
    python -m k8s.dashboards --check       says whether they are up to date (exit status 1 if not)

Expressions sum over replicas: they fit the pods' exporters and the service's own /metrics alike.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k8s import write_or_check

FOLDER = Path(__file__).parent / "components" / "monitoring" / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
SIZES = {"timeseries": (12, 8), "stat": (4, 4)}
"""Kind of panel to its width and height, in Grafana's columns and rows."""

RATE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries as (expression, legend), `unit` and `kind` in Grafana's names."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Rows of panels; `uid` is its address and the name of its file."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def quantile(family: str, labels: str, point: float) -> str:
    """A quantile of a histogram; `labels` is a matcher in braces, or nothing."""
    return f"histogram_quantile({point}, sum by (le) ({rate(f'{family}_bucket{labels}')}))"


def quantiles(title: str, family: str, labels: str, points: tuple[float, ...], unit: str = "s") -> Panel:
    queries = tuple((quantile(family, labels, point), f"p{round(point * 100)}") for point in points)
    return Panel(title, queries, unit)


def stat(title: str, query: str, unit: str = "short") -> Panel:
    return Panel(title, ((query, title),), unit, "stat")


def lines(title: str, query: str, legend: str, unit: str = "short") -> Panel:
    return Panel(title, ((query, legend),), unit)


def rate(selector: str) -> str:
    return f"rate({selector}[{RATE}])"


TEXTS = "stt_text_latency_seconds"
DECODES = "stt_decode_duration_seconds"
FINALS = '{job_type="final"}'
INTERIMS = '{job_type="interim"}'
OURS = '{application="sotto"}'
BY_DEPLOYMENT = "sum by (deployment)"
BY_CARD = "max by (gpu_uuid, gpu_id, gpu_name)"
CARD = "{{gpu_name}} {{gpu_id}}"
BY_REPLICA = "max by (deployment_name, replica_id, gpu_uuid)"

DONE = "stt_jobs_processed_total"
ERRORS = 'stt_jobs_processed_total{status="error"}'
FAILED = f"sum({rate(ERRORS)}) / sum({rate(DONE)})"

NOW = (
    stat("Live sessions", "sum(stt_active_connections)"),
    stat("Uploads in work", "sum(whisper_active_requests)"),
    stat("Backpressure (0 to 2)", "max(stt_backpressure_level)"),
    stat("Finals waiting", 'sum(stt_queue_depth{queue_type="final"})'),
    stat("Final p95", quantile(TEXTS, FINALS, 0.95), "s"),
    stat("Refused a second", f"sum({rate('stt_refused_total')})", "reqps"),
    stat("Failed decodes", FAILED, "percentunit"),
)

LIVE = (
    lines("Sessions", "sum(stt_active_connections)", "sessions"),
    lines("Waiting decodes", "sum by (queue_type) (stt_queue_depth)", "{{queue_type}}"),
    quantiles("Final behind its audio", TEXTS, FINALS, (0.5, 0.95, 0.99)),
    quantiles("Interim behind its audio", TEXTS, INTERIMS, (0.5, 0.95)),
    quantiles("Decoding a final", DECODES, FINALS, (0.5, 0.95, 0.99)),
    quantiles("Decoding an interim", DECODES, INTERIMS, (0.5, 0.95)),
    lines(
        "Sessions begun and resumed a second",
        f"sum by (resumed) ({rate('stt_sessions_started_total')})",
        "resumed: {{resumed}}",
        "ops",
    ),
    lines(
        "Sessions ended a second",
        f"sum by (reason) ({rate('stt_sessions_ended_total')})",
        "{{reason}}",
        "ops",
    ),
    lines(
        "Texts written a second", f"sum by (job_type) ({rate('stt_texts_sent_total')})", "{{job_type}}", "ops"
    ),
    lines(
        "Audio taken a second",
        f"sum by (request_type) ({rate('stt_audio_seconds_total')})",
        "{{request_type}}",
        "s",
    ),
    lines(
        "Refused for want of room",
        f"sum by (request_type, reason) ({rate('stt_refused_total')})",
        "{{request_type}} {{reason}}",
        "ops",
    ),
    lines("Errors", f"sum by (door, reason) ({rate('stt_failures_total')})", "{{door}} {{reason}}", "ops"),
    lines(
        "Last error",
        "max by (door) (stt_last_failure_timestamp_seconds) * 1000",
        "{{door}}",
        "dateTimeFromNow",
    ),
    Panel(
        "Backpressure",
        (("max(stt_backpressure_level)", "level"), ("max(stt_backpressure_rung)", "rung of the ladder")),
    ),
    lines(
        "Decodes a second",
        f"sum by (job_type, status) ({rate(DONE)})",
        "{{job_type}} {{status}}",
        "ops",
    ),
    lines(
        "Kept or not",
        f"sum({rate('stt_audit_write_failures_total')}) or vector(0)",
        "audit lines not written",
        "ops",
    ),
    lines(
        "Texts that guards took away",
        f"sum by (job_type, reason) ({rate('stt_texts_dropped_total')})",
        "{{job_type}} {{reason}}",
        "ops",
    ),
)

UPLOADS = (
    lines(
        "Uploads a second",
        f"sum by (status) ({rate('whisper_transcription_requests_total')})",
        "{{status}}",
        "reqps",
    ),
    quantiles("Time to answer", "whisper_transcription_duration_seconds", "", (0.5, 0.95)),
    quantiles("Real-time factor", "whisper_real_time_factor", "", (0.5, 0.95), "short"),
    lines("Audio transcribed a second", f"sum({rate('whisper_audio_duration_seconds_sum')})", "audio", "s"),
    Panel(
        "Result cache",
        (
            (f"sum({rate('whisper_cache_hits_total')})", "hits"),
            (f"sum({rate('whisper_cache_misses_total')})", "misses"),
            (f"sum({rate('stt_cache_lost_total')})", "without it: it did not answer"),
        ),
        "ops",
    ),
)

QUEUE = (
    lines("Recordings in the queue", "max by (state) (stt_recording_jobs)", "{{state}}"),
    lines(
        "Recordings ended a second",
        f"sum by (state) ({rate('stt_recording_jobs_ended_total')})",
        "{{state}}",
        "ops",
    ),
    quantiles("Time in the queue", "stt_recording_job_wait_seconds", "", (0.5, 0.95)),
    lines(
        "Webhooks a second",
        f"sum by (outcome) ({rate('stt_webhook_attempts_total')})",
        "{{outcome}}",
        "ops",
    ),
)

REPLICAS = (
    lines("Healthy", f"{BY_DEPLOYMENT} (ray_serve_deployment_replica_healthy{OURS})", "{{deployment}}"),
    lines(
        "Wanted by autoscaling",
        f"{BY_DEPLOYMENT} (ray_serve_autoscaling_target_replicas{OURS})",
        "{{deployment}}",
    ),
    lines("Calls in work", f"{BY_DEPLOYMENT} (ray_serve_replica_processing_queries{OURS})", "{{deployment}}"),
    lines(
        "Failed health checks",
        f"{BY_DEPLOYMENT} ({rate('ray_serve_health_check_failures_total' + OURS)})",
        "{{deployment}}",
        "ops",
    ),
)

CARDS = (
    lines("Load", f"{BY_CARD} (stt_gpu_utilization_ratio)", CARD, "percentunit"),
    Panel(
        "Memory",
        (
            (f"{BY_CARD} (stt_gpu_memory_used_bytes)", f"{CARD} in use"),
            (f"{BY_CARD} (stt_gpu_memory_total_bytes)", f"{CARD} there is"),
        ),
        "bytes",
    ),
    lines(
        "Memory of a replica",
        f"{BY_REPLICA} (stt_replica_gpu_memory_used_bytes)",
        "{{deployment_name}} {{replica_id}}",
        "bytes",
    ),
    lines(
        "Memory of a replica by its share",
        f"{BY_REPLICA} (stt_replica_gpu_memory_used_bytes) "
        f"/ {BY_REPLICA} (stt_replica_gpu_memory_share_bytes)",
        "{{deployment_name}} {{replica_id}}",
        "percentunit",
    ),
    lines("Temperature", f"{BY_CARD} (stt_gpu_temperature_celsius)", CARD, "celsius"),
    Panel(
        "Power",
        (
            (f"{BY_CARD} (stt_gpu_power_watts)", f"{CARD} draws"),
            (f"{BY_CARD} (stt_gpu_power_limit_watts)", f"{CARD} may draw"),
        ),
        "watt",
    ),
)

NODES = (
    lines("Processors", "max by (ip) (ray_node_cpu_utilization)", "{{ip}}", "percent"),
    lines("Memory in use", "max by (ip) (ray_node_mem_used)", "{{ip}}", "bytes"),
)

SERVICE = Dashboard(
    "sotto-service",
    "Sotto: the service",
    (("Now", NOW), ("Live", LIVE), ("Uploads", UPLOADS), ("Queue", QUEUE)),
)
CLUSTER = Dashboard(
    "sotto-cluster",
    "Sotto: replicas and cards",
    (("Replicas", REPLICAS), ("Cards", CARDS), ("Nodes", NODES)),
)

DASHBOARDS = (SERVICE, CLUSTER)


def as_json(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana 9 and newer import."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["sotto"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
            ]
        },
        "panels": list(_placed(dashboard.rows)),
    }


def _placed(rows: Sequence[tuple[str, tuple[Panel, ...]]]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, panels in rows:
        number += 1
        place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "gridPos": place,
            "collapsed": False,
            "panels": [],
        }
        top, left, height = top + 1, 0, 0
        for panel in panels:
            width, own_height = SIZES[panel.kind]
            if left + width > COLUMNS:
                top, left, height = top + height, 0, 0
            height = max(height, own_height)
            number += 1
            yield _panel(panel, number, {"x": left, "y": top, "w": width, "h": height})
            left += width
        top += height


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
            }
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def generated() -> dict[Path, str]:
    """Path to text of every file that this module makes."""
    return {
        FOLDER / f"{dashboard.uid}.json": json.dumps(as_json(dashboard), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` compare them; the exit status."""
    return write_or_check(
        generated(), arguments, below=FOLDER, source="k8s/dashboards.py", module="k8s.dashboards"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
