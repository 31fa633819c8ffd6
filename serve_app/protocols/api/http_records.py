"""The bodies of our own HTTP doors: records for the API documents, written by `transcribe` and `health`."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from serve_app.protocols.api.native_records import Server, Word


class Detail(Server, frozen=True, kw_only=True):
    """What was wrong."""

    detail: str


class ProcessingTime(Server, frozen=True, kw_only=True):
    preprocess_ms: float
    transcribe_ms: float
    total_ms: float


class Segment(Server, frozen=True, kw_only=True):
    """Times in seconds; `confidence` is the mean log-probability, as `avg_logprob`. `speaker`, if asked for:
    null where it is not known."""

    id: int
    start: float
    end: float
    text: str
    confidence: float | None
    avg_logprob: float | None
    speaker: str | None | UnsetType = UNSET
    doubted: str | UnsetType = UNSET


class Transcript(Server, frozen=True, kw_only=True):
    """A recording's text; `confidence` is the probability of the language. Times are seconds. Speakers are
    there where they were asked for, `warning` and `complete` where something is wrong with the audio."""

    transcript: str
    confidence: float | None
    language: str
    language_probability: float | None
    duration: float
    segments: list[Segment]
    processing_time: ProcessingTime
    real_time_factor: float
    model: str
    timestamp: str
    cached: bool
    words: list[Word] | UnsetType = UNSET
    num_speakers: int | UnsetType = UNSET
    speakers: list[str] | UnsetType = UNSET
    warning: str | UnsetType = UNSET
    complete: bool | UnsetType = UNSET
    withheld_segments: int | UnsetType = UNSET


class RootConfig(Server, frozen=True, kw_only=True):
    model: str | None
    device: str | None
    compute_type: str | None
    cache_enabled: bool
    cache_type: str | None
    language: str
    max_audio_length: float


class Root(Server, frozen=True, kw_only=True):
    service: Literal["sotto"]
    status: Literal["online"]
    config: RootConfig
    version: str
    endpoints: list[str]


class Health(Server, frozen=True, kw_only=True):
    status: Literal["healthy", "unhealthy"]
    model: Literal["loaded", "loading"]
    cache: Literal["enabled", "disabled"]
    ready: bool
    version: str


class Ready(Server, frozen=True, kw_only=True):
    status: Literal["ready", "not_ready"]
    ready: bool


class Live(Server, frozen=True, kw_only=True):
    status: Literal["alive"]


class Startup(Server, frozen=True, kw_only=True):
    status: Literal["started", "starting"]
    started: bool


class StatusModel(Server, frozen=True, kw_only=True):
    model_size: str | None
    device: str | None
    compute_type: str | None
    ready: bool


class Queue(Server, frozen=True, kw_only=True):
    depth: int
    avg_partial_ms: float
    avg_final_ms: float
    estimated_server_total_ms: float
    accepting_requests: bool
    total_requests: int
    rejected_requests: int


class Sessions(Server, frozen=True, kw_only=True):
    active: int
    max: int


class Capacity(Server, frozen=True, kw_only=True):
    estimated_max_concurrent: int
    current_load_percent: float


class LoadedModel(Server, frozen=True, kw_only=True):
    name: str
    role: str
    engine: str
    device: str
    compute_type: str
    multilingual: bool


class Status(Server, frozen=True, kw_only=True):
    """Models, queue, sessions and load of this process."""

    status: Literal["ready", "not_ready"]
    accepting_requests: bool
    model: StatusModel
    queue: Queue
    sessions: Sessions
    capacity: Capacity
    models: list[LoadedModel]
