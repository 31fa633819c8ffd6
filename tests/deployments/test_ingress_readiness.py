"""What an ingress replica asks the deployments behind it, and when it calls itself ready."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.ingress import Ingress
from fakes.fake_time import FakeClock
from serve_app.core.errors import ReplicaUnhealthy
from serve_app.core.jobs import ModelInfo
from serve_app.service.ports import ReplicaLost
from serve_app.service.readiness import LOST_AFTER_S, Readiness
from serve_app.settings import Settings
from serve_app.speakers.ports import SpeakerStatus

BASE = ModelInfo("base", "final", "fake", "cpu", "int8", True, "")
WARM, COLD = SpeakerStatus("pyannote", warm=True), SpeakerStatus("pyannote")


class Deployment:
    """Answers `answer`, or is lost where there is none."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def describe(self) -> Any:
        if self.answer is ReplicaLost:
            raise ReplicaLost("it does not answer")
        return self.answer


class Front:
    """An ingress without its doors: only what it knows of the deployments."""

    def __init__(self, deployments: dict[str, Deployment], *, diarization_enabled: bool = False) -> None:
        self.clock = FakeClock()
        self.ingress = object.__new__(Ingress)
        self.ingress._settings = Settings(diarization_enabled=diarization_enabled)
        self.ingress._models = self.ingress._final_models = ()
        self.ingress._speaker_status = SpeakerStatus()
        self.ingress._recognisers = tuple(
            name for name in deployments if name.endswith("Asr") or name == "Recogniser"
        )
        optional = {"Diarization"} & set(deployments) if not diarization_enabled else set()
        required = [name for name in deployments if name not in optional]
        self.ingress._readiness = Readiness(required, optional, self.clock)
        self.deployments = deployments

    async def ask(self) -> None:
        """One round of questions."""
        asking = asyncio.create_task(self.ingress._keep_describing(self.deployments))  # type: ignore[arg-type]
        for _ in range(10):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    @property
    def ready(self) -> bool:
        return self.ingress._readiness.ready


async def test_ready_once_every_deployment_has_answered() -> None:
    recogniser, voice = Deployment(ReplicaLost), Deployment(ReplicaLost)
    front = Front({"VoiceActivity": voice, "Recogniser": recogniser})
    await front.ask()
    recogniser.answer = (BASE,)
    await front.ask()
    assert front.ingress._models == (BASE,)
    assert not front.ready
    voice.answer = None
    await front.ask()
    assert front.ready


async def test_the_models_of_interims_and_finals_are_known_together() -> None:
    tiny = ModelInfo("tiny.en", "interim", "fake", "cpu", "int8", False, "")
    final = Deployment(ReplicaLost)
    front = Front({"VoiceActivity": Deployment(None), "InterimAsr": Deployment((tiny,)), "FinalAsr": final})
    await front.ask()
    assert front.ingress._models == ()
    final.answer = (BASE,)
    await front.ask()
    assert front.ingress._models == (tiny, BASE)
    assert front.ingress._final_models == (BASE,)


class BeyondHelp:
    def check(self) -> None:
        raise ReplicaUnhealthy("the voice detector failed twice")


async def test_a_voice_detector_of_its_own_that_is_beyond_help_makes_the_ingress_unhealthy() -> None:
    ingress = object.__new__(Ingress)
    ingress._tasks, ingress._own_voice = [], None
    await ingress.check_health()
    ingress._own_voice = BeyondHelp()  # type: ignore[assignment]
    with pytest.raises(ReplicaUnhealthy, match="failed twice"):
        await ingress.check_health()


async def test_a_deployment_that_is_lost_is_named_and_its_models_stay_known() -> None:
    recogniser = Deployment((BASE,))
    front = Front({"VoiceActivity": Deployment(None), "Recogniser": recogniser})
    await front.ask()
    recogniser.answer = ReplicaLost
    front.clock.pass_s(LOST_AFTER_S + 1)
    await front.ask()
    assert not front.ready
    assert front.ingress._readiness.silent == ("Recogniser",)
    assert front.ingress._models == (BASE,)


@pytest.mark.parametrize(("enabled", "ready"), [(True, False), (False, True)])
async def test_a_diarizer_that_loads_holds_up_only_who_asked_for_speakers(enabled: bool, ready: bool) -> None:
    diarizer = Deployment(COLD)
    front = Front(
        {"VoiceActivity": Deployment(None), "Recogniser": Deployment((BASE,)), "Diarization": diarizer},
        diarization_enabled=enabled,
    )
    await front.ask()
    assert front.ready == ready
    diarizer.answer = WARM
    await front.ask()
    assert front.ready
    assert front.ingress._speaker_status == WARM
