"""The names that dashboards of other servers know, word for word; and that something feeds each family."""

import ast
from pathlib import Path

import pytest

from serve_app.telemetry import metrics
from serve_app.telemetry.families import FAMILIES, GPU_FAMILIES

CHECKOUT = Path(__file__).parents[3]

INHERITED = {
    "stt_active_connections": ("gauge", "Active WebSocket connections", (), ()),
    "stt_queue_depth": ("gauge", "Queue depths (final, interim)", ("queue_type",), ()),
    "stt_jobs_processed_total": ("counter", "Jobs processed", ("job_type", "status"), ()),
    "stt_decode_duration_seconds": ("histogram", "Decode latencies", ("job_type",), None),
    "stt_backpressure_level": ("gauge", "Current backpressure level", (), ()),
    "stt_gpu_memory_used_bytes": ("gauge", "GPU memory usage", ("gpu_id",), ()),
    "whisper_transcription_requests_total": (
        "counter",
        "Total transcription requests",
        ("status", "cached"),
        (),
    ),
    "whisper_transcription_duration_seconds": (
        "histogram",
        "Time spent transcribing",
        (),
        (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
    ),
    "whisper_audio_duration_seconds": (
        "histogram",
        "Duration of audio being transcribed",
        (),
        (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0),
    ),
    "whisper_real_time_factor": (
        "histogram",
        "Real-time factor (processing time / audio duration)",
        (),
        (0.1, 0.3, 0.5, 1.0, 2.0, 5.0),
    ),
    "whisper_cache_hits_total": ("counter", "Cache hits", (), ()),
    "whisper_cache_misses_total": ("counter", "Cache misses", (), ()),
    "whisper_active_requests": ("gauge", "Currently processing requests", (), ()),
}
"""Type, HELP, labels that must be there, buckets (None: not laid down)."""


@pytest.mark.parametrize("name", INHERITED)
def test_inherited_families(name):
    kind, text, labels, buckets = INHERITED[name]
    family = {family.name: family for family in FAMILIES}[name]
    assert (str(family.kind), family.help) == (kind, text)
    assert family.labels[: len(labels)] == labels
    assert buckets is None or family.buckets == buckets


def _calls_outside_telemetry():
    found = set()
    for folder in ("serve_app", "deployments"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            if "telemetry" in path.relative_to(CHECKOUT).parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
    return found


def test_every_family_is_fed():
    events = {
        name for name, value in vars(metrics.Metrics).items() if callable(value) and not name.startswith("_")
    }
    assert events <= _calls_outside_telemetry()


def test_every_instrument_is_used_by_an_event():
    """What `__init__` makes and no method records would be a family that is always 0."""
    tree = ast.parse(Path(metrics.__file__).read_text())
    (recorder,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Metrics")
    made, used = set(), set()
    for method in recorder.body:
        if isinstance(method, ast.FunctionDef):
            names = {
                node.attr
                for node in ast.walk(method)
                if isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            }
            (made if method.name == "__init__" else used).update(names)
    assert made <= used
    assert len(made) == len(set(FAMILIES) - set(GPU_FAMILIES))
