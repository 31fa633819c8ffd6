"""What every door needs: the service behind it, the settings in front of it, and a place to count."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from serve_app.access.keyring import Keyring
from serve_app.access.limits import Limiter, Usage
from serve_app.audio.formats import canonical_formats
from serve_app.cache.results import ResultCache
from serve_app.clips.ports import Clips
from serve_app.core.erasure import Eraser
from serve_app.core.errors import InternalError, QueueFull, RequestTimedOut, SottoError
from serve_app.core.jobs import Task
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.jobs.desk import JobDesk
from serve_app.models.languages import normalise_language
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.doors import Described
from serve_app.service.contract import DeploymentReplicas, RecordingOptions, SpeechService
from serve_app.session.options import SessionOptions
from serve_app.settings import Settings
from serve_app.telemetry.metrics import Metrics
from serve_app.web.callers import caller_of
from serve_app.web.request_records import RecordKeeper
from serve_app.web.upload_memory import UPLOAD_MEMORY_BYTES, UploadMemory

log = structlog.get_logger(__name__)

MAX_CONCURRENT_UPLOADS = 32
"""Uploads held in this process at once; the next one is told to come back."""


T = TypeVar("T")
Endpoint: TypeAlias = Callable[[Any], Awaitable[Any]]
ReplicaCounts: TypeAlias = Callable[[], Awaitable[Sequence[DeploymentReplicas]]]
"""Raises `StorageUnavailable` while nothing answers."""
Endpoints: TypeAlias = Mapping[str, Endpoint]
"""Starlette's functions by the names of the doors that they answer."""
KEY_BYTES = 32
"""Of the key that signs client secrets and tokens, where none is configured: it lives as long as this
process."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What outlives a request; None where nothing of that kind does. `jobs` are queued, `clips` stored,
    `cache` has results, `keeper` takes the record of each request for the audit log, and `erasers` are asked
    at `DELETE /v1/data`."""

    jobs: JobDesk | None = None
    clips: Clips | None = None
    cache: ResultCache | None = None
    keeper: RecordKeeper | None = None
    erasers: tuple[Eraser, ...] = ()


class Door:
    """Shared by all routes of one application; counts what is open in this process.

    `described`: every door of the application. `signing_key`: the same on all replicas, or a client secret is
    good at one of them only; None: one of this process. `keys`: those that are asked for; None: none are.
    `limiter`: what keys and addresses may use. `kept`: what outlives a request.
    `replicas`: asked for what there are of each deployment; None: unknown.
    """

    def __init__(
        self,
        service: SpeechService,
        settings: Settings,
        metrics: Metrics,
        *,
        described: Sequence[Described] = (),
        signing_key: bytes | None = None,
        keys: Keyring | None = None,
        limiter: Limiter | None = None,
        kept: Kept | None = None,
        replicas: ReplicaCounts | None = None,
    ) -> None:
        kept = kept or Kept()
        self.service = service
        self.jobs, self.clips, self.cache = kept.jobs, kept.clips, kept.cache
        self.keeper, self.erasers = kept.keeper, kept.erasers
        self.replicas = replicas
        self.limiter = limiter or Limiter()
        self.limiter.on_refused = lambda what: metrics.refused(what, "limit")
        self.described = tuple(described)
        self.keys = keys
        self.signing_key = signing_key or secrets.token_bytes(KEY_BYTES)
        self.settings = settings
        self.metrics = metrics
        self.allowed_formats = canonical_formats(settings.allowed_formats)
        self._language = normalise_language(settings.language)
        is_strict = settings.privacy == "strict"
        self.upload_memory = (
            UploadMemory(max(self.max_body_bytes, UPLOAD_MEMORY_BYTES)) if is_strict else None
        )
        self._num_connections = 0
        self._num_uploads = 0

    def usage(self, scope: Scope) -> Usage:
        """What the caller of a request or a WebSocket uses of its limits."""
        return self.limiter.usage(caller_of(scope))

    def charged_address(self, scope: Scope) -> str:
        """The client's, to be kept with work that is done later; "" where addresses have no limits of
        audio."""
        return caller_of(scope).address if self.limiter.limits_audio_of_addresses else ""

    @property
    def max_body_bytes(self) -> int:
        return int(self.settings.max_file_size_mb * 1024 * 1024)

    @property
    def max_audio_samples(self) -> int:
        return int(self.settings.max_audio_length_seconds * SAMPLE_RATE_HZ)

    def session_defaults(self) -> SessionOptions:
        settings = self.settings
        return SessionOptions(
            session_id="",
            language=self._language,
            languages=() if self._language else settings.languages,
            withhold_doubted=settings.withhold_doubted,
            language_lock_s=settings.language_lock_s if settings.language_mode == "lock" else None,
            task=Task(settings.task),
            partials=settings.partial_results,
            partial_interval_ms=settings.partial_interval_ms,
            max_partial_window_ms=round(settings.max_partial_window_s * 1000),
            word_timestamps=settings.word_timestamps,
            prompt=settings.initial_prompt,
            hotwords=settings.hotwords,
            carry_context=settings.carry_context,
            policy=settings.policy(),
            conditioning=settings.conditioning(),
            formatting=settings.formatting(),
            level_warnings=settings.level_warnings,
            speakers=settings.speakers(),
            speaker_counts=settings.speaker_counts(),
            endpointing=settings.endpointing(),
        )

    def recording_defaults(self) -> RecordingOptions:
        return RecordingOptions(
            language=self._language,
            languages=() if self._language else self.settings.languages,
            withhold_doubted=self.settings.withhold_doubted,
            task=Task(self.settings.task),
            vad_filter=self.settings.vad_enabled,
            prompt=self.settings.initial_prompt,
            hotwords=self.settings.hotwords,
            conditioning=self.settings.conditioning(),
            formatting=self.settings.formatting(),
            normalise=self.settings.normalise_uploads,
            speakers=self.settings.speakers(),
            speaker_counts=self.settings.speaker_counts(),
            endpointing=self.settings.endpointing(),
        )

    def idle_final_s(self, choices: SessionChoices, options: SessionOptions, *, by_default: bool) -> float:
        """Seconds without audio that end an utterance, 0: none do. `by_default`: without being asked for."""
        if choices.idle_final_ms is not None:
            return choices.idle_final_ms / 1000
        return self.settings.idle_final_s if by_default and options.endpointing.enabled else 0.0

    async def within_time(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work` on a request whose body has come. Raises `RequestTimedOut` where it takes
        longer than `request_timeout_s` (0: as long as it takes)."""
        limit_s = self.settings.request_timeout_s
        try:
            async with asyncio.timeout(limit_s or None) as limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            raise RequestTimedOut(f"the request was not done within {limit_s:g} s") from None

    @contextmanager
    def connection(self) -> Iterator[None]:
        """One WebSocket, for as long as it is open."""
        self._num_connections += 1
        self.metrics.connections(self._num_connections)
        try:
            yield
        finally:
            self._num_connections -= 1
            self.metrics.connections(self._num_connections)

    @contextmanager
    def upload(self) -> Iterator[None]:
        """One upload, for as long as it is worked on. Raises `QueueFull` when there are too many."""
        if self._num_uploads >= MAX_CONCURRENT_UPLOADS:
            self.metrics.refused("upload", "max_uploads")
            raise QueueFull(f"Queue full: {self._num_uploads}/{MAX_CONCURRENT_UPLOADS} uploads")
        self._num_uploads += 1
        self.metrics.active_requests(self._num_uploads)
        try:
            yield
        finally:
            self._num_uploads -= 1
            self.metrics.active_requests(self._num_uploads)

    @contextmanager
    def transcription(self) -> Iterator[None]:
        """An upload whose failures are counted; an unexpected one is logged and becomes `InternalError`."""
        try:
            with self.upload():
                yield
        except ClientDisconnect:
            raise
        except SottoError:
            self.metrics.request_failed()
            raise
        except Exception:
            self.metrics.request_failed()
            log.exception("transcription failed")
            raise InternalError("Transcription failed") from None


def new_session_id() -> str:
    """An id for a client that brought none: 96 random bits."""
    return f"session-{secrets.token_hex(12)}"
