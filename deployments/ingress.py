"""The front of the graph: every door, every live session, and the conductor that drives them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette

from deployments.limits import shared_counts
from deployments.ports import CacheHandle, RecogniserHandle, SpeakerHandle, VoiceHandle
from deployments.replicas import replica_counts
from deployments.serve_patches import bound_receive_queues, name_requests_once
from serve_app.assembly.access import keyring, limiter_of
from serve_app.assembly.audit import open_audit
from serve_app.assembly.jobs import JobEraser, assemble_jobs, transcribing_jobs
from serve_app.assembly.process import set_up_process
from serve_app.assembly.service import assemble, traces_of
from serve_app.assembly.speakers import status_of
from serve_app.assembly.storage import clips_of, erasers_of, keeps_nothing, result_cache_of
from serve_app.assembly.voice_activity import local_voice, state_shape
from serve_app.core.erasure import Eraser
from serve_app.core.jobs import ModelInfo
from serve_app.service.ports import ReplicaLost
from serve_app.service.readiness import Readiness
from serve_app.settings import Settings
from serve_app.speakers.ports import SpeakerStatus
from serve_app.telemetry.cluster import ClusterMetrics, RayInstruments, ray_exporter_urls
from serve_app.telemetry.metrics import Metrics, no_metrics
from serve_app.web.app import Guards, create_app
from serve_app.web.bounds import BodyPace
from serve_app.web.door import Door, Kept
from serve_app.web.job_kinds import job_kinds
from serve_app.web.keepalive import let_audio_be_a_sign_of_life
from serve_app.web.metrics_port import listen_for_scrapers, serve_metrics

DESCRIBE_INTERVAL_S = 5.0
UNREADY_INTERVAL_S = 1.0


class Described(Protocol):
    """The port of a deployment that says what is loaded there."""

    async def describe(self) -> Any:
        """Raises `ReplicaLost`."""


class Ingress:
    """Holds the live sessions of this replica; the doors run inside it."""

    def __init__(  # noqa: PLE0100 - Serve awaits the constructor of an ingress
        self,
        settings: dict[str, Any],
        voice: DeploymentHandle[Any] | None,
        interim: DeploymentHandle[Any],
        final: DeploymentHandle[Any],
        shared_cores: bool,
        speakers: DeploymentHandle[Any] | None = None,
        short: DeploymentHandle[Any] | None = None,
        cache: DeploymentHandle[Any] | None = None,
    ) -> None:
        """Without a `voice` deployment the detector runs on a thread here."""
        self._settings = Settings.from_dict(settings)
        bound_receive_queues()
        name_requests_once()
        let_audio_be_a_sign_of_life(self._settings.max_frame_bytes)
        set_up_process(self._settings)
        self._metrics = Metrics(RayInstruments()) if self._settings.metrics_enabled else no_metrics()
        self._audit = open_audit(self._settings, self._metrics)
        self._traces = traces_of(self._settings, "ingress")
        self._models: tuple[ModelInfo, ...] = ()
        self._final_models: tuple[ModelInfo, ...] = ()
        self._speaker_status = status_of(self._settings)
        recognisers = [RecogniserHandle(interim)]
        if not shared_cores:
            recognisers.append(RecogniserHandle(final))
        cluster_metrics = ClusterMetrics(ray_exporter_urls)
        self._recognisers = ("Recogniser",) if shared_cores else ("InterimAsr", "FinalAsr")
        self._own_voice = local_voice(self._settings) if voice is None else None
        hearing = self._own_voice or VoiceHandle(voice, state_shape(self._settings.vad_backend))
        deployments: dict[str, Described] = {"VoiceActivity": hearing}
        deployments |= zip(self._recognisers, recognisers, strict=True)
        required, optional = list(deployments), list[str]()
        telling_apart = None if speakers is None else SpeakerHandle(speakers)
        if telling_apart is not None:
            deployments["Diarization"] = telling_apart
            by_default = self._settings.diarization_enabled and self._speaker_status.available
            (required if by_default else optional).append("Diarization")
        brief = None if short is None else RecogniserHandle(short)
        if brief is not None:
            deployments["ShortAsr"] = brief
            optional.append("ShortAsr")
        self._readiness = Readiness(required, optional)
        self._speech, conductor = assemble(
            self._settings,
            voice=hearing,
            interim=recognisers[0],
            final=recognisers[-1],
            short=brief,
            shared_cores=shared_cores,
            metrics=self._metrics,
            traces=self._traces,
            models=lambda: self._models,
            final_models=lambda: self._final_models,
            speakers=telling_apart,
            speaker_status=lambda: self._speaker_status,
            metrics_text=cluster_metrics.text,
            readiness=self._readiness,
        )
        self._keys = keyring(self._settings)
        self._cache = (
            None if cache is None else result_cache_of(self._settings, CacheHandle(cache), self._metrics)
        )
        self._clips = clips_of(self._settings, self._cache)
        transcribe_with = transcribing_jobs(
            self._settings,
            voice=hearing,
            recogniser=recognisers[-1],
            speakers=telling_apart,
            require_served=self._speech.require_served,
        )
        self._limiter = limiter_of(self._settings, shared_counts())
        door = Door(self._speech, self._settings, self._metrics, keys=self._keys, limiter=self._limiter)
        kinds = job_kinds(door, transcribe_with)
        self._jobs = (
            None if keeps_nothing(self._settings) else assemble_jobs(self._settings, kinds, self._metrics)
        )
        self._tasks = [
            asyncio.create_task(conductor.run(), name="conductor"),
            asyncio.create_task(self._keep_describing(deployments), name="models"),
        ]
        if self._jobs is not None:
            self._tasks.append(asyncio.create_task(self._jobs.run(), name="jobs"))
        if self._clips is not None:
            self._tasks.append(asyncio.create_task(self._clips.keep_sweeping(), name="clip sweeper"))
        if self._keys is not None:
            self._tasks.append(asyncio.create_task(self._keys.keep_reading(), name="keys"))
        if self._settings.metrics_enabled and self._settings.metrics_port is not None:
            listener = listen_for_scrapers(self._settings.host, self._settings.metrics_port)
            self._tasks.append(
                asyncio.create_task(serve_metrics(listener, cluster_metrics.text), name="metrics")
            )

    def __serve_build_asgi_app__(self) -> Starlette:  # noqa: PLW3201 - the name is Serve's
        secret = self._settings.secret("ticket_secret")
        return create_app(
            self._speech,
            self._settings,
            self._metrics,
            guards=Guards(
                cors_origins=self._settings.cors_origins,
                keys=self._keys,
                keys_in_address=self._settings.keys_in_address,
                metrics_need_key=self._settings.metrics_need_key,
                addresses=self._settings.address_rules(),
                limiter=self._limiter,
                pace=BodyPace(self._settings.min_upload_bytes_per_s, self._settings.upload_timeout_s),
            ),
            kept=Kept(
                jobs=None if self._jobs is None else self._jobs.desk,
                clips=self._clips,
                cache=self._cache,
                keeper=self._audit and self._audit[0],
                erasers=self._erasers(),
            ),
            signing_key=secret.encode() if secret else None,
            traces=self._traces,
            replicas=replica_counts,
        )

    def _erasers(self) -> tuple[Eraser, ...]:
        """Of every store here that keeps something."""
        erasers: list[Eraser] = [*erasers_of(self._clips, self._cache)]
        if self._jobs is not None:
            erasers.append(JobEraser(self._jobs.desk))
        if self._audit is not None:
            erasers.append(self._audit[1])
        return tuple(erasers)

    def __del__(self) -> None:
        """Serve calls it when the replica has ended gracefully: the audit log gets its closing line."""
        if audit := getattr(self, "_audit", None):
            audit[0].close()

    async def check_health(self) -> None:
        """Serve restarts the replica when this raises: a task that stopped is one that died, and a voice
        detector that failed twice may be cured by a new process."""
        if self._own_voice is not None:
            self._own_voice.check()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                raise RuntimeError(f"the task {task.get_name()} stopped") from task.exception()

    async def _keep_describing(self, deployments: dict[str, Described]) -> None:
        """Know which models are loaded, and which deployments answer: a replica may have been replaced."""
        while True:
            answers = await asyncio.gather(*(self._describe(*item) for item in deployments.items()))
            said = dict(zip(deployments, answers, strict=True))
            found = [models for name in self._recognisers if (models := said[name]) is not None]
            if len(found) == len(self._recognisers):
                self._models = tuple(model for models in found for model in models)
                self._final_models = found[-1]
            await asyncio.sleep(DESCRIBE_INTERVAL_S if self._readiness.ready else UNREADY_INTERVAL_S)

    async def _describe(self, name: str, deployment: Described) -> Any:
        try:
            answer = await deployment.describe()
        except ReplicaLost:
            return None
        if isinstance(answer, SpeakerStatus):
            self._speaker_status = answer
            if self._settings.diarization_enabled and answer.available and not answer.warm:
                return answer
        self._readiness.answered(name)
        return answer
