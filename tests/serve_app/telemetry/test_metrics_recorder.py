import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fakes.local_metrics import LocalInstruments
from serve_app.telemetry import cluster as ray_metrics
from serve_app.telemetry.__main__ import metrics_document
from serve_app.telemetry.cluster import RayInstruments, ray_exporter_urls
from serve_app.telemetry.families import FAMILIES, GPU_FAMILIES, Kind
from serve_app.telemetry.metrics import Metrics, no_metrics


@pytest.fixture
def local():
    return LocalInstruments()


@pytest.fixture
def recorder(local):
    return Metrics(local)


def test_the_families_of_the_service():
    assert {family.name: (str(family.kind), family.labels) for family in FAMILIES} == {
        "stt_active_connections": ("gauge", ()),
        "stt_queue_depth": ("gauge", ("queue_type",)),
        "stt_jobs_processed_total": ("counter", ("job_type", "status")),
        "stt_decode_duration_seconds": ("histogram", ("job_type",)),
        "stt_text_latency_seconds": ("histogram", ("job_type",)),
        "stt_sessions_started_total": ("counter", ("resumed",)),
        "stt_sessions_ended_total": ("counter", ("reason",)),
        "stt_texts_sent_total": ("counter", ("job_type",)),
        "stt_audio_seconds_total": ("counter", ("request_type",)),
        "stt_refused_total": ("counter", ("request_type", "reason")),
        "stt_failures_total": ("counter", ("door", "status", "reason")),
        "stt_last_failure_timestamp_seconds": ("gauge", ("door", "status", "reason")),
        "stt_audit_write_failures_total": ("counter", ()),
        "stt_backpressure_level": ("gauge", ()),
        "stt_backpressure_rung": ("gauge", ()),
        "stt_texts_dropped_total": ("counter", ("job_type", "reason")),
        "stt_gpu_memory_used_bytes": ("gauge", ("gpu_id", "gpu_uuid", "gpu_name")),
        "stt_gpu_memory_total_bytes": ("gauge", ("gpu_id", "gpu_uuid", "gpu_name")),
        "stt_gpu_utilization_ratio": ("gauge", ("gpu_id", "gpu_uuid", "gpu_name")),
        "stt_gpu_temperature_celsius": ("gauge", ("gpu_id", "gpu_uuid", "gpu_name")),
        "stt_gpu_power_watts": ("gauge", ("gpu_id", "gpu_uuid", "gpu_name")),
        "stt_gpu_power_limit_watts": ("gauge", ("gpu_id", "gpu_uuid", "gpu_name")),
        "stt_replica_gpu_memory_used_bytes": (
            "gauge",
            ("gpu_id", "gpu_uuid", "deployment_name", "replica_id"),
        ),
        "stt_replica_gpu_memory_share_bytes": (
            "gauge",
            ("gpu_id", "gpu_uuid", "deployment_name", "replica_id"),
        ),
        "stt_recording_jobs": ("gauge", ("state",)),
        "stt_recording_jobs_ended_total": ("counter", ("state",)),
        "stt_recording_job_wait_seconds": ("histogram", ()),
        "stt_webhook_attempts_total": ("counter", ("outcome",)),
        "whisper_transcription_requests_total": ("counter", ("status", "cached")),
        "whisper_transcription_duration_seconds": ("histogram", ()),
        "whisper_audio_duration_seconds": ("histogram", ()),
        "whisper_real_time_factor": ("histogram", ()),
        "whisper_cache_hits_total": ("counter", ()),
        "whisper_cache_misses_total": ("counter", ()),
        "stt_cache_lost_total": ("counter", ()),
        "whisper_active_requests": ("gauge", ()),
    }
    buckets = {family.name: family.buckets for family in FAMILIES}
    assert buckets["whisper_transcription_duration_seconds"] == (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
    assert buckets["whisper_audio_duration_seconds"] == (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0)
    assert buckets["whisper_real_time_factor"] == (0.1, 0.3, 0.5, 1.0, 2.0, 5.0)
    assert all(bool(family.buckets) == (family.kind is Kind.HISTOGRAM) for family in FAMILIES)


def test_the_page_is_up_to_date():
    page = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert page.read_text() == metrics_document(), "run: python -m serve_app.telemetry > docs/metrics.md"


def test_what_the_conductor_says(local, recorder):
    recorder.queue_depth("final", 3)
    recorder.queue_depth("final", 2)
    recorder.queue_depth("interim", 7)
    recorder.job_processed("final", "success", 0.3)
    recorder.job_processed("final", "error")
    recorder.text_sent("final", 0.12)
    recorder.session_started(resumed=True)
    recorder.refused("session", "max_sessions")
    recorder.backpressure(2, 5)
    assert local.value("stt_queue_depth", {"queue_type": "final"}) == 2
    assert local.value("stt_queue_depth", {"queue_type": "interim"}) == 7
    assert local.value("stt_jobs_processed_total", {"job_type": "final", "status": "success"}) == 1
    assert local.value("stt_decode_duration_seconds_count", {"job_type": "final"}) == 1
    assert local.value("stt_text_latency_seconds_sum", {"job_type": "final"}) == 0.12
    assert local.value("stt_sessions_started_total", {"resumed": "true"}) == 1
    assert local.value("stt_refused_total", {"request_type": "session", "reason": "max_sessions"}) == 1
    assert local.value("stt_backpressure_level") == 2
    assert local.value("stt_backpressure_rung") == 5


def test_what_the_doors_say(local, recorder):
    recorder.connections(2)
    recorder.active_requests(1)
    recorder.request_done(0.5, 5.0)
    recorder.request_done(0.1, 0.0, cached=True)
    recorder.request_failed()
    recorder.cache_lookup(hit=True)
    recorder.cache_lookup(hit=False)
    assert local.value("stt_active_connections") == 2
    assert local.value("whisper_active_requests") == 1
    requests = "whisper_transcription_requests_total"
    assert local.value(requests, {"status": "success", "cached": "false"}) == 1
    assert local.value(requests, {"status": "success", "cached": "true"}) == 1
    assert local.value(requests, {"status": "error", "cached": "false"}) == 1
    assert local.value("whisper_audio_duration_seconds_sum") == 5.0
    assert local.value("whisper_real_time_factor_sum") == pytest.approx(0.1)
    assert local.value("whisper_real_time_factor_count") == 1
    assert local.value("whisper_cache_hits_total") == 1
    assert local.value("whisper_cache_misses_total") == 1


def test_the_exposition_is_in_the_words_that_dashboards_know(local, recorder):
    text = local.exposition()
    assert "# HELP whisper_active_requests Currently processing requests\n" in text
    assert re.search(r"^# TYPE whisper_cache_hits_total counter$", text, re.MULTILINE)


def test_counting_nothing_is_allowed():
    metrics = no_metrics()
    metrics.connections(1)
    metrics.job_processed("final", "success", 0.1)
    metrics.request_done(1.0, 1.0)


class FakeRayMetric:
    def __init__(self, name, description, *rest):
        self.made_of = (name, description, *rest)
        self.calls = []

    def inc(self, value, tags):
        assert value > 0
        self.calls.append((value, tags))

    def set(self, value, tags):
        self.calls.append((value, tags))

    def observe(self, value, tags):
        self.calls.append((value, tags))


def test_the_recorder_speaks_rays_dialect(monkeypatch):
    made = {}

    def make(*args):
        made[args[0]] = FakeRayMetric(*args)
        return made[args[0]]

    serve = ModuleType("ray.serve")
    serve.metrics = SimpleNamespace(Counter=make, Gauge=make, Histogram=make)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    recorder = Metrics(RayInstruments())
    recorder.job_processed("final", "success", 0.3)
    recorder.connections(4)
    assert made.keys() == {family.name for family in set(FAMILIES) - set(GPU_FAMILIES)}
    assert made["stt_jobs_processed_total"].made_of[2] == ("job_type", "status")
    assert made["whisper_real_time_factor"].made_of[2] == [0.1, 0.3, 0.5, 1.0, 2.0, 5.0]
    assert made["stt_jobs_processed_total"].calls == [(1, {"job_type": "final", "status": "success"})]
    assert made["stt_decode_duration_seconds"].calls == [(0.3, {"job_type": "final"})]
    assert made["stt_active_connections"].calls == [(4, {})]
    RayInstruments().instrument(FAMILIES[2]).record(0, {})
    assert made["stt_jobs_processed_total"].calls == []


def test_exporters_of_live_nodes_only(monkeypatch):
    nodes = [
        {"Alive": True, "NodeManagerAddress": "10.0.0.1", "MetricsExportPort": 9000},
        {"Alive": False, "NodeManagerAddress": "10.0.0.2", "MetricsExportPort": 9000},
        {"Alive": True, "NodeManagerAddress": "10.0.0.3", "MetricsExportPort": 0},
        {"Alive": True, "NodeManagerAddress": "fd00::1", "MetricsExportPort": 9000},
    ]
    ray = ModuleType("ray")
    ray.nodes = lambda: nodes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert ray_exporter_urls() == ["http://10.0.0.1:9000/metrics", "http://[fd00::1]:9000/metrics"]


def test_importing_the_module_does_not_import_ray():
    assert not hasattr(ray_metrics, "ray")
