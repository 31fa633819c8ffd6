"""Settings of the host: server, models and devices, access, speakers, storage, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import SecretStr

from serve_app.settings.define import Section, setting
from serve_app.speakers.turns import MaxSpeakers, MinSpeakers, SpeakerBackend

LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
ComputeType: TypeAlias = Literal[
    "auto",
    "default",
    "int8",
    "int8_float16",
    "int8_float32",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
]


class ServerSection(Section):
    """Server"""

    host: str = setting(
        "127.0.0.1", "Address to listen on.", "BIND_HOST", "API_HOST", min_length=1, max_length=255
    )
    port: int = setting(8000, "Port of every door.", "BIND_PORT", "API_PORT", ge=1, le=65535)
    tls_cert: Path | None = setting(None, "Certificate chain (PEM): serve HTTPS, HTTP/2 and WSS with it.")
    tls_key: Path | None = setting(None, "Its private key (PEM); empty: it is in `tls_cert`'s file.")
    tls_self_signed: bool = setting(
        False, "Serve them with a certificate made here (in `cache_dir`/tls), for trying it out."
    )
    num_ingress_replicas: int | None = setting(
        None,
        "Processes that hold the sockets; empty: as the graph's config file says.",
        "API_WORKERS",
        flags=("workers",),
        ge=1,
        le=256,
    )
    profile: Literal["auto", "cpu", "gpu"] = setting(
        "auto", "Which shape the graph takes; auto: gpu where the cluster has one."
    )
    log_level: LogLevel = setting("INFO", "Least level that is logged.", "LOG_LEVEL")
    debug: bool = setting(False, "Short for log_level DEBUG, where no level is given.", "DEBUG")
    log_file: Path | None = setting(
        None, "Also log into this file, as JSON; opened anew where it was rotated, or on SIGHUP.", "LOG_FILE"
    )
    log_format: Literal["auto", "json", "text"] = setting(
        "auto", "How lines on standard error are written; auto: as text in a terminal, else as JSON."
    )
    service_url: str = setting(
        "http://127.0.0.1:8000",
        "Where our own client commands find the service.",
        "WHISPER_SERVICE_URL",
    )


class ModelSection(Section):
    """Models and devices"""

    model: str | None = setting(
        None,
        "Model of both roles, interims and finals; a role's own name wins.",
        "STT_WHISPER_MODEL",
        "WHISPER_MODEL",
        max_length=500,
    )
    interim_model: str = setting(
        "tiny.en",
        "Model of interim text; unless given, `base` where `language` is another than English.",
        "INTERIM_MODEL",
        min_length=1,
        max_length=500,
    )
    final_model: str = setting("base", "Model of final text.", "FINAL_MODEL", min_length=1, max_length=500)
    offline_model: str | None = setting(
        None, "Model of uploaded recordings; empty: that of finals.", max_length=500
    )
    model_dir: Path | None = setting(None, "Folder with model folders, looked into first.")
    cache_dir: Path | None = setting(
        None,
        "Where models out of packages are joined, and small state is kept; empty: `~/.cache/sotto`. "
        "Not the results' cache, which is `result_cache_dir`.",
    )
    hf_home: Path | None = setting(None, "Folder of the Hugging Face hub's own cache.", "HF_HOME")
    hf_token: SecretStr | None = setting(
        None,
        "Token for the hub.",
        "HF_TOKEN",
        "HUGGINGFACE_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        secret=True,
    )
    offline: bool = setting(False, "Never ask the hub; use what is here.", "HF_HUB_OFFLINE")
    model_load_timeout_s: float = setting(
        300,
        "Give up on a model that takes longer to load: the start fails and names it.",
        "MODEL_LOAD_TIMEOUT",
        gt=0,
        le=86_400,
    )
    engine: Literal["auto", "ctranslate2", "mlx", "onnx", "torch"] | str = setting(
        "auto",
        "What runs the models; auto: mlx on Apple silicon; on other CPUs onnx, or ctranslate2 where `sotto "
        "doctor` measured that it costs less; on cards ctranslate2, or torch for folders that it cannot read "
        "and for align_att. `faster-whisper` means ctranslate2, `mlx-whisper` mlx, `whisper` torch. Also the "
        "name of an engine that an installed package brings (extending.md).",
        "WHISPER_BACKEND",
    )
    device: Device = setting(
        "auto",
        "Where the models run; auto: cuda where there is one. mps selects mlx, or torch where that is not "
        "installed.",
        "DEVICE",
        "WHISPER_DEVICE",
    )
    compute_type: ComputeType = setting(
        "auto",
        "Precision of both roles; auto: int8 on a CPU, float16 on a GPU. A role's own wins.",
        "WHISPER_COMPUTE_TYPE",
    )
    interim_compute: ComputeType = setting("auto", "Precision of the interim model.", "INTERIM_COMPUTE")
    final_compute: ComputeType = setting("auto", "Precision of the final model.", "FINAL_COMPUTE")
    num_workers: int | None = setting(
        None,
        "Decodes at once in one recogniser; empty: derived from the cores.",
        "WHISPER_NUM_WORKERS",
        "NUM_WORKERS",
        ge=1,
        le=256,
    )
    threads_per_worker: int = setting(1, "Cores that one decode uses.", ge=1, le=256)
    max_batch_size: int = setting(8, "Windows in one batch on a GPU.", ge=1, le=64)
    short_audio_on_cpu_s: float | None = setting(
        None,
        "On GPUs: decode final utterances of at most so many seconds on the CPU, in a deployment of its own; "
        "the GPU takes them where that is busy or lost. Empty: never.",
        gt=0,
        le=30,
    )


class AccessSection(Section):
    """Access"""

    api_key: SecretStr | None = setting(
        None,
        "One key for all doors but probes, metrics and documents, beside those of `keys_file`; our client "
        "commands send it.",
        "API_KEY",
        "WHISPER_API_KEY",
        secret=True,
    )
    keys_file: Path | None = setting(
        None, "File of the keys that `sotto keys` makes (keys.md); each process that serves reads it."
    )
    keys_in_redis: bool = setting(False, "Keep them in Redis (`redis_url`) instead, for several machines.")
    keys_in_address: bool = setting(
        False,
        "Take keys and tokens also as `?token=` or `?api_key=` of a WebSocket's address, where logs see it.",
    )
    allow_anonymous: bool = setting(
        False, "Start without any key on an address that is not loopback: all who reach it may use it."
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        "Web origins whose pages may use the doors, WebSockets too; `*`: all; empty: none.",
        "CORS_ORIGINS",
        max_length=256,
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Proxies whose `X-Forwarded-For` (or `Forwarded`) names the client: addresses and CIDR networks, "
        "commas between them. This machine's own always are; list no network that clients are in.",
        max_length=256,
    )
    allow_addresses: tuple[str, ...] = setting(
        (), "Addresses and networks that clients may come from, beside loopback; empty: any.", max_length=4096
    )
    deny_addresses: tuple[str, ...] = setting(
        (), "Addresses and networks that no client may come from, whatever is allowed.", max_length=4096
    )
    ticket_secret: SecretStr | None = setting(
        None,
        "Key that signs resume tickets, the same on all replicas.",
        secret=True,
    )
    ticket_lifetime_s: float = setting(3600, "How long a resume ticket holds.", gt=0, le=604_800)
    webhook_secret: SecretStr | None = setting(
        None,
        "Key that signs webhooks (Standard Webhooks): `whsec_` and base64, or any text; empty: unsigned.",
        secret=True,
    )
    outbound_networks: tuple[str, ...] = setting(
        (),
        "Networks beside the public internet that webhooks and recordings' addresses may reach "
        "(`10.0.0.0/8, 127.0.0.1/32`); empty: none.",
        max_length=256,
    )


class PrivacySection(Section):
    """Privacy and audit"""

    privacy: Literal["standard", "strict"] = setting(
        "standard",
        "strict: nothing of audio or text leaves memory. No cache, no clips, no upload is written to disk, "
        "exceptions are logged without what they say, no core dumps (privacy.md).",
    )
    audit_log_dir: Path | None = setting(
        None, "Folder of the audit log: who used which door, when and how long, without words. Empty: none."
    )
    audit_key: SecretStr | None = setting(
        None,
        "Key of the audit log's chain, without which none can forge it; empty: the chain has plain sums.",
        secret=True,
    )
    audit_retention_days: int | None = setting(
        None, "How long audit lines are kept; empty: until they are deleted by hand.", ge=1, le=36_500
    )


class SpeakerSection(Section):
    """Speakers"""

    diarization_enabled: bool = setting(
        False,
        "Say who spoke, where a request does not choose; needs `make speakers`.",
        "DIARIZATION_ENABLED",
        flags=("diarization",),
    )
    diarization_backend: SpeakerBackend = setting(
        "pyannote",
        "What tells speakers apart: pyannote.audio (`diart` means its live path), NVIDIA's Sortformer (needs "
        "NeMo), or `channel`, one speaker on each. Also the name of a diarizer that an installed package "
        "brings (extending.md).",
        "DIARIZATION_BACKEND",
    )
    pyannote_model: str = setting(
        "pyannote/speaker-diarization",
        "pyannote's pipeline for recordings, a hub id or a folder that you trust (its files are programs). "
        "Unchanged it means segmentation-3.0 with CAM++, which need no account.",
        "PYANNOTE_MODEL",
        min_length=1,
        max_length=500,
    )
    diarization_device: Literal["auto", "cpu", "cuda", "mps"] = setting(
        "auto", "Where speakers are told apart; auto: on a GPU where the replica has a share of one."
    )
    diarization_threads: int = setting(
        1, "Cores that telling speakers apart uses on a CPU, live and for recordings each.", ge=1, le=64
    )
    diarization_step_s: float = setting(
        5.0, "How often a long utterance is listened to for its speakers while it goes on.", ge=1, le=30
    )
    min_speakers: int | None = setting(None, MinSpeakers, more=", where a request does not say")
    max_speakers: int | None = setting(None, MaxSpeakers, more=", where a request does not say")


class StorageSection(Section):
    """Storage and caches"""

    audio_storage_path: str | None = setting(
        None,
        "Where clips are stored: a folder, or an address that fsspec knows (`s3://bucket/folder`, with s3fs "
        "installed); empty: `clips` in `cache_dir`. All ingress replicas must see the same.",
        "AUDIO_STORAGE_PATH",
        min_length=1,
        max_length=1000,
    )
    delete_audio_immediately: bool = setting(
        False,
        "Delete a clip once it is transcribed. Audio that is sent to be transcribed at once is never kept.",
        "DELETE_AUDIO_IMMEDIATELY",
    )
    clip_retention_s: float = setting(
        86_400,
        "Age at which a clip is deleted; what is stored already goes by it too.",
        ge=60,
        le=315_360_000,
    )
    clip_quota_mb: int = setting(
        10_000, "Largest size of all clips of one key, in MiB.", ge=1, le=1_000_000_000
    )
    storage_key: SecretStr | None = setting(
        None,
        "Encrypts clips, jobs and cached results at rest: at least 32 characters (`openssl rand -hex 32`), "
        "the same on all replicas. With another key, or none, what was stored is gone.",
        secret=True,
    )
    disable_audio_logging: bool = setting(
        True,
        "Keep audio and words out of the logs. They are never in them: `false` is refused, and "
        "`audio_storage_path` is what keeps audio.",
        "DISABLE_AUDIO_LOGGING",
    )
    result_cache_enabled: bool = setting(
        False,
        "Answer the same upload, with the same options and models, from a cache.",
        "ENABLE_CACHE",
    )
    result_cache_type: Literal["memory", "disk", "redis"] = setting(
        "memory",
        "Where results are cached: in memory, nothing on disk; in a folder of one machine; in Redis.",
        "CACHE_TYPE",
    )
    result_cache_dir: Path | None = setting(
        None, "Folder of the results on disk; empty: `results` in `cache_dir`.", "CACHE_DIR"
    )
    result_cache_max_size_mb: int = setting(
        1_000,
        "Largest size of the cache in MiB, in memory or on disk; Redis has its own `maxmemory`.",
        "CACHE_MAX_SIZE_MB",
        ge=1,
        le=10_000_000,
    )
    result_cache_ttl_s: float = setting(3600, "How long a result is cached.", gt=0, le=31_536_000)
    result_cache_shared: bool = setting(
        False, "Answer one key's upload with the result of another key's same upload; no: each its own."
    )
    redis_url: SecretStr | None = setting(
        None,
        "Redis: counts limits for all replicas (where it does not answer, each counts for itself), keeps "
        "keys where `keys_in_redis` says so, results where that is the cache's type, and jobs unless they "
        "have a database.",
        "REDIS_URL",
        secret=True,
    )


class JobSection(Section):
    """Jobs"""

    jobs_database: SecretStr | None = setting(
        None,
        "Where jobs and webhooks are kept: `sqlite:///FILE` on one machine, else `postgresql://...` (with "
        "`psycopg` installed) or `redis://...`; empty: Redis where `redis_url` is set, else `jobs.db` in "
        "`cache_dir`.",
        secret=True,
    )
    jobs_storage_path: str | None = setting(
        None,
        "Where audio of jobs waits: a folder or an address that fsspec knows, the same for all replicas; "
        "empty: `jobs` in `cache_dir`.",
        min_length=1,
        max_length=1_000,
    )
    job_workers: int = setting(
        1, "Jobs that each ingress replica works on at once; 0: it only takes them.", ge=0, le=64
    )
    job_result_ttl_s: float = setting(
        86_400, "How long a job and its result are kept once it has ended.", ge=1, le=31_536_000
    )
    max_waiting_jobs: int = setting(1_000, "Jobs of one key that may wait.", ge=1, le=1_000_000)


class MetricSection(Section):
    """Metrics, traces and alerts"""

    metrics_enabled: bool = setting(
        True, "Count, and serve `/metrics`; off: it is answered 404.", "ENABLE_METRICS"
    )
    metrics_need_key: bool = setting(False, "Ask for a key with the scope metrics at `/metrics` too.")
    metrics_port: int | None = setting(
        None,
        "A port of their own for metrics, on `host`, cleartext and without a key; empty: `/metrics` on the "
        "service's port.",
        "METRICS_PORT",
        ge=1,
        le=65535,
    )
    otlp_endpoint: str | None = setting(
        None,
        "OpenTelemetry collector that spans are sent to (OTLP over HTTP); empty: no traces.",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        pattern=r"^https?://[^\s]+$",
        max_length=2_000,
    )
    otlp_headers: SecretStr | None = setting(
        None,
        "Headers for the collector, `name=value` separated by commas.",
        "OTEL_EXPORTER_OTLP_HEADERS",
        secret=True,
    )
    slack_webhook_url: SecretStr | None = setting(
        None, "Where `sotto health` tells Slack of changes.", "SLACK_WEBHOOK_URL", secret=True
    )
    trace_sample_ratio: float = setting(
        1.0,
        "Share of requests and sessions that are traced, where the client has not decided it.",
        "OTEL_TRACES_SAMPLER_ARG",
        ge=0,
        le=1,
    )
