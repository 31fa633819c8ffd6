"""The front of the graph: every door, every live session, and the conductor that drives them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.ports import CacheHandle, RecogniserHandle, SpeakerHandle, VoiceHandle
from deployments.serve_patches import bound_receive_queues, name_requests_once
from serve_app.assembly.jobs import assemble_jobs, transcribing_jobs
from serve_app.assembly.service import assemble
from serve_app.assembly.speakers import status_of
from serve_app.assembly.storage import clips_of, keeps_nothing, result_cache_of
from serve_app.assembly.voice_activity import state_shape
from serve_app.core.jobs import ModelInfo
from serve_app.service.ports import ReplicaLost
from serve_app.settings import Settings
from serve_app.telemetry.cluster import ClusterMetrics, RayInstruments, ray_exporter_urls
from serve_app.telemetry.logs import configure_logs
from serve_app.telemetry.metrics import Metrics
from serve_app.web.app import create_app
from serve_app.web.door import Door
from serve_app.web.job_kinds import job_kinds
from serve_app.web.keepalive import let_audio_be_a_sign_of_life

DESCRIBE_INTERVAL_S = 5.0


class Ingress:
    """Holds the live sessions of this replica; the doors run inside it."""

    def __init__(  # noqa: PLE0100 - Serve awaits the constructor of an ingress
        self,
        settings: dict[str, Any],
        voice: DeploymentHandle[Any],
        interim: DeploymentHandle[Any],
        final: DeploymentHandle[Any],
        shared_cores: bool,
        speakers: DeploymentHandle[Any] | None = None,
        short: DeploymentHandle[Any] | None = None,
        cache: DeploymentHandle[Any] | None = None,
    ) -> None:
        self._settings = Settings.from_dict(settings)
        bound_receive_queues()
        name_requests_once()
        let_audio_be_a_sign_of_life()
        configure_logs(self._settings.log_level)
        self._metrics = Metrics(RayInstruments())
        self._models: tuple[ModelInfo, ...] = ()
        self._final_models: tuple[ModelInfo, ...] = ()
        self._speaker_status = status_of(self._settings)
        recognisers = [RecogniserHandle(interim)]
        if not shared_cores:
            recognisers.append(RecogniserHandle(final))
        telling_apart = None if speakers is None else SpeakerHandle(speakers)
        voices = VoiceHandle(voice, state_shape(self._settings.vad_backend))
        self._speech, conductor = assemble(
            self._settings,
            voice=voices,
            interim=recognisers[0],
            final=recognisers[-1],
            short=None if short is None else RecogniserHandle(short),
            shared_cores=shared_cores,
            metrics=self._metrics,
            models=lambda: self._models,
            final_models=lambda: self._final_models,
            speakers=telling_apart,
            speaker_status=lambda: self._speaker_status,
            metrics_text=ClusterMetrics(ray_exporter_urls).text,
        )
        self._clips = clips_of(self._settings)
        self._cache = (
            None if cache is None else result_cache_of(self._settings, CacheHandle(cache), self._metrics)
        )
        if self._clips is not None:
            self._sweeper = asyncio.create_task(self._clips.keep_sweeping(), name="clip sweeper")
        transcribe_with = transcribing_jobs(
            self._settings,
            voice=voices,
            recogniser=recognisers[-1],
            speakers=telling_apart,
            require_served=self._speech.require_served,
        )
        kinds = job_kinds(Door(self._speech, self._settings, self._metrics), transcribe_with)
        self._jobs = None if keeps_nothing(self._settings) else assemble_jobs(self._settings, kinds)
        if self._jobs is not None:
            self._queue = asyncio.create_task(self._jobs.run(), name="jobs")
        self._tasks = (
            asyncio.create_task(conductor.run(), name="conductor"),
            asyncio.create_task(self._keep_describing(recognisers, telling_apart), name="models"),
        )

    def __serve_build_asgi_app__(self) -> Starlette:  # noqa: PLW3201 - the name is Serve's
        origins = self._settings.cors_origins
        secret = self._settings.secret("ticket_secret")
        return create_app(
            self._speech,
            self._settings,
            self._metrics,
            cors_origins=origins,
            signing_key=secret.encode() if secret else None,
            api_key=self._settings.secret("api_key") or None,
            clips=self._clips,
            cache=self._cache,
            jobs=None if self._jobs is None else self._jobs.desk,
        )

    async def check_health(self) -> None:
        """Serve restarts the replica when this raises: a conductor that stopped is one that died."""
        conductor = self._tasks[0]
        if conductor.done() and not conductor.cancelled():
            raise RuntimeError("the conductor stopped") from conductor.exception()

    async def _keep_describing(
        self, recognisers: list[RecogniserHandle], speakers: SpeakerHandle | None
    ) -> None:
        """Know which models are loaded; again whenever a replica may have been replaced."""
        while True:
            with contextlib.suppress(ReplicaLost):
                found = [await recogniser.describe() for recogniser in recognisers]
                self._models = tuple(model for models in found for model in models)
                self._final_models = found[-1]
                if speakers is not None:
                    self._speaker_status = await speakers.describe()
            await asyncio.sleep(DESCRIBE_INTERVAL_S)
