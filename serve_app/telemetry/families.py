"""The metric families of the service, once: names, HELP, labels and buckets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How the values of several replicas become one: a level is the worst of them, all else adds up."""

    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family; `buckets` are upper bounds without +Inf, for histograms only."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Merge = Merge.SUM


ACTIVE_CONNECTIONS = Family("stt_active_connections", Kind.GAUGE, "Active WebSocket connections")
QUEUE_DEPTH = Family("stt_queue_depth", Kind.GAUGE, "Queue depths (final, interim)", ("queue_type",))
JOBS_PROCESSED = Family("stt_jobs_processed_total", Kind.COUNTER, "Jobs processed", ("job_type", "status"))
DECODE_DURATION = Family(
    "stt_decode_duration_seconds",
    Kind.HISTOGRAM,
    "Decode latencies",
    ("job_type",),
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
TEXT_LATENCY = Family(
    "stt_text_latency_seconds",
    Kind.HISTOGRAM,
    "From the arrival of the last audio that a live text needed to the text",
    ("job_type",),
    (0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0),
)
SESSIONS_STARTED = Family(
    "stt_sessions_started_total", Kind.COUNTER, "Live sessions that began, or went on elsewhere", ("resumed",)
)
SESSIONS_ENDED = Family("stt_sessions_ended_total", Kind.COUNTER, "Live sessions that ended", ("reason",))
TEXTS_SENT = Family(
    "stt_texts_sent_total", Kind.COUNTER, "Live texts that were written to their client", ("job_type",)
)
AUDIO_RECEIVED = Family(
    "stt_audio_seconds_total",
    Kind.COUNTER,
    "Seconds of audio taken from live sessions and from uploads that were answered with text",
    ("request_type",),
)
REFUSED = Family(
    "stt_refused_total",
    Kind.COUNTER,
    "Live sessions, uploads and requests refused for want of room",
    ("request_type", "reason"),
)
_FAILED = ("door", "status", "reason")
FAILURES = Family(
    "stt_failures_total",
    Kind.COUNTER,
    "Requests and connections that met an error, by the code of the last one",
    _FAILED,
)
LAST_FAILURE = Family(
    "stt_last_failure_timestamp_seconds",
    Kind.GAUGE,
    "When such a request or connection last ended, Unix time",
    _FAILED,
    merge=Merge.MAX,
)
AUDIT_FAILURES = Family(
    "stt_audit_write_failures_total", Kind.COUNTER, "Times the audit log could not be written"
)
BACKPRESSURE_LEVEL = Family(
    "stt_backpressure_level", Kind.GAUGE, "Current backpressure level", merge=Merge.MAX
)
BACKPRESSURE_RUNG = Family(
    "stt_backpressure_rung",
    Kind.GAUGE,
    "What gives way: 0 nothing, 1 interims slower, 2 shorter, 3 no speculative finals, 4 no interims, "
    "5 finals by the interim model, 6 new sessions refused",
    merge=Merge.MAX,
)

TEXTS_DROPPED = Family(
    "stt_texts_dropped_total",
    Kind.COUNTER,
    "Texts that a guard took away or does not believe, by its reason",
    ("job_type", "reason"),
)

_CARD = ("gpu_id", "gpu_uuid", "gpu_name")
_REPLICA_ON_CARD = ("gpu_id", "gpu_uuid", "deployment_name", "replica_id")
# Every replica on a card reports the same figures of it: the highest, not their sum.
GPU_MEMORY_USED = Family("stt_gpu_memory_used_bytes", Kind.GAUGE, "GPU memory usage", _CARD, merge=Merge.MAX)
GPU_MEMORY_TOTAL = Family(
    "stt_gpu_memory_total_bytes", Kind.GAUGE, "GPU memory there is", _CARD, merge=Merge.MAX
)
GPU_UTILISATION = Family(
    "stt_gpu_utilization_ratio", Kind.GAUGE, "Share of time in which a kernel ran", _CARD, merge=Merge.MAX
)
GPU_TEMPERATURE = Family("stt_gpu_temperature_celsius", Kind.GAUGE, "GPU temperature", _CARD, merge=Merge.MAX)
GPU_POWER = Family("stt_gpu_power_watts", Kind.GAUGE, "Power that the GPU draws", _CARD, merge=Merge.MAX)
GPU_POWER_LIMIT = Family(
    "stt_gpu_power_limit_watts", Kind.GAUGE, "Power that the GPU may draw", _CARD, merge=Merge.MAX
)
REPLICA_GPU_MEMORY = Family(
    "stt_replica_gpu_memory_used_bytes",
    Kind.GAUGE,
    "GPU memory that one replica holds",
    _REPLICA_ON_CARD,
    merge=Merge.MAX,
)
REPLICA_GPU_SHARE = Family(
    "stt_replica_gpu_memory_share_bytes",
    Kind.GAUGE,
    "GPU memory that one replica's share of the card is",
    _REPLICA_ON_CARD,
    merge=Merge.MAX,
)

RECORDING_JOBS = Family(
    "stt_recording_jobs", Kind.GAUGE, "Recordings in the queue, of all keys", ("state",), merge=Merge.MAX
)
RECORDING_JOBS_ENDED = Family(
    "stt_recording_jobs_ended_total", Kind.COUNTER, "Queued recordings that have ended", ("state",)
)
RECORDING_JOB_WAIT = Family(
    "stt_recording_job_wait_seconds",
    Kind.HISTOGRAM,
    "From a recording's request to the first attempt at it",
    buckets=(1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0),
)
WEBHOOKS = Family(
    "stt_webhook_attempts_total", Kind.COUNTER, "Webhooks sent, by what came of it", ("outcome",)
)

REQUESTS = Family(
    "whisper_transcription_requests_total",
    Kind.COUNTER,
    "Total transcription requests",
    ("status", "cached"),
)
TRANSCRIPTION_DURATION = Family(
    "whisper_transcription_duration_seconds",
    Kind.HISTOGRAM,
    "Time spent transcribing",
    buckets=(0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
AUDIO_DURATION = Family(
    "whisper_audio_duration_seconds",
    Kind.HISTOGRAM,
    "Duration of audio being transcribed",
    buckets=(0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0),
)
REAL_TIME_FACTOR = Family(
    "whisper_real_time_factor",
    Kind.HISTOGRAM,
    "Real-time factor (processing time / audio duration)",
    buckets=(0.1, 0.3, 0.5, 1.0, 2.0, 5.0),
)
CACHE_HITS = Family("whisper_cache_hits_total", Kind.COUNTER, "Cache hits")
CACHE_MISSES = Family("whisper_cache_misses_total", Kind.COUNTER, "Cache misses")
CACHE_LOST = Family(
    "stt_cache_lost_total", Kind.COUNTER, "Uploads that went without a result cache that did not answer"
)
ACTIVE_REQUESTS = Family("whisper_active_requests", Kind.GAUGE, "Currently processing requests")

GPU_FAMILIES: tuple[Family, ...] = (
    GPU_MEMORY_USED,
    GPU_MEMORY_TOTAL,
    GPU_UTILISATION,
    GPU_TEMPERATURE,
    GPU_POWER,
    GPU_POWER_LIMIT,
    REPLICA_GPU_MEMORY,
    REPLICA_GPU_SHARE,
)
"""What replicas with a GPU report beside the others."""

FAMILIES: tuple[Family, ...] = (
    ACTIVE_CONNECTIONS,
    QUEUE_DEPTH,
    JOBS_PROCESSED,
    DECODE_DURATION,
    TEXT_LATENCY,
    SESSIONS_STARTED,
    SESSIONS_ENDED,
    TEXTS_SENT,
    AUDIO_RECEIVED,
    REFUSED,
    FAILURES,
    LAST_FAILURE,
    AUDIT_FAILURES,
    BACKPRESSURE_LEVEL,
    BACKPRESSURE_RUNG,
    TEXTS_DROPPED,
    *GPU_FAMILIES,
    RECORDING_JOBS,
    RECORDING_JOBS_ENDED,
    RECORDING_JOB_WAIT,
    WEBHOOKS,
    REQUESTS,
    TRANSCRIPTION_DURATION,
    AUDIO_DURATION,
    REAL_TIME_FACTOR,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_LOST,
    ACTIVE_REQUESTS,
)
