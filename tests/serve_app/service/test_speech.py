"""Admission: what is refused at the door, and that recordings come out whole and in order."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest

from fakes.local_metrics import LocalInstruments
from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from fakes.told_events import ToldEvents
from fakes.voices import FakeSpeakers
from serve_app.assembly.service import NO_SPEAKERS
from serve_app.audio.conditioning import ConditioningOptions
from serve_app.capacity.speakers import SpeakerEstimate
from serve_app.core.errors import (
    InferenceError,
    MaxSessionsReached,
    QueueCongestion,
    QueueFull,
    SessionExists,
    UnsupportedLanguage,
    UnsupportedPolicy,
)
from serve_app.core.events import SessionStarted, SoundWarning
from serve_app.core.jobs import ModelInfo, Task
from serve_app.service.conductor import Conductor, ConductorConfig
from serve_app.service.contract import RecordingOptions
from serve_app.service.counters import Counters
from serve_app.service.recording_speakers import SpeakerRecordings
from serve_app.service.recordings import RecordingTranscriber
from serve_app.service.speech import DEFAULT_MAX_SESSIONS, AdmissionLimits, Speech
from serve_app.session.options import SessionOptions
from serve_app.session.ticket import TicketOffice
from serve_app.speakers.ports import SpeakerStatus
from serve_app.streaming.policy import PolicyName, PolicyOptions
from serve_app.telemetry.metrics import Metrics, no_metrics

MODELS = (ModelInfo("tiny.en", "final", "fake", "cpu", "int8", False, "", ("en",)),)


def speech(
    limits: AdmissionLimits | None = None,
    recogniser: FakeRecogniser | None = None,
    models: tuple[ModelInfo, ...] = (),
    speakers: FakeSpeakers | None = None,
    metrics: Metrics | None = None,
    cores: float | None = None,
) -> Speech:
    recogniser = recogniser or FakeRecogniser()
    counters, voice = Counters(metrics or no_metrics()), FakeVoice()
    estimate = SpeakerEstimate(cores, time.monotonic())
    conductor = Conductor(
        ConductorConfig(),
        voice=voice,
        interim=recogniser,
        final=recogniser,
        counters=counters,
        speakers=speakers,
        estimate=estimate,
    )

    async def metrics_text() -> str:
        return ""

    return Speech(
        limits or AdmissionLimits(),
        conductor=conductor,
        recordings=SpeakerRecordings(
            RecordingTranscriber(voice=voice, recogniser=recogniser, max_windows_in_flight=3), speakers
        ),
        speakers=lambda: SpeakerStatus("fake") if speakers else NO_SPEAKERS,
        counters=counters,
        models=lambda: MODELS,
        final_models=lambda: models or MODELS,
        metrics_text=metrics_text,
        tickets=TicketOffice(b"key"),
        estimate=estimate,
    )


async def test_an_id_in_use_is_refused_and_free_once_its_socket_is_gone() -> None:
    service = speech()
    service.open_session(SessionOptions("a", language="en"))
    with pytest.raises(SessionExists):
        service.open_session(SessionOptions("a", language="en"))
    service.session_closed("a")
    service.open_session(SessionOptions("a", language="en"))


async def test_the_session_limit_is_a_plain_count() -> None:
    service = speech(AdmissionLimits(max_sessions=2))
    service.open_session(SessionOptions("a"))
    service.open_session(SessionOptions("b"))
    with pytest.raises(MaxSessionsReached, match="2/2"):
        service.open_session(SessionOptions("c"))
    assert service.status().queue.rejected_requests == 1
    assert not service.status().accepting


async def test_what_is_taken_on_and_what_is_refused_is_counted() -> None:
    local = LocalInstruments()
    service = speech(AdmissionLimits(max_sessions=1, max_recordings=0), metrics=Metrics(local))
    service.open_session(SessionOptions("a"))
    with pytest.raises(MaxSessionsReached):
        service.open_session(SessionOptions("b"))
    with pytest.raises(QueueFull):
        await service.transcribe(np.zeros(1600, np.int16), RecordingOptions())
    assert local.value("stt_sessions_started_total", {"resumed": "false"}) == 1
    assert local.value("stt_refused_total", {"request_type": "session", "reason": "max_sessions"}) == 1
    assert local.value("stt_refused_total", {"request_type": "upload", "reason": "max_uploads"}) == 1


async def test_without_a_number_as_many_are_admitted_as_were_measured() -> None:
    measured = replace(MODELS[0], audio_s_per_s=4.0, cpu_s_per_audio_s=0.5)
    limits = AdmissionLimits(max_sessions=None)
    service = speech(limits, models=(measured,), cores=2.0)
    most = service.status().max_sessions
    assert 1 < most < 6
    assert service.status().estimated_max_concurrent == most
    for number in range(most):
        service.open_session(SessionOptions(f"s{number}"))
    assert not service.status().accepting
    with pytest.raises(MaxSessionsReached, match=f"{most}/{most}"):
        service.open_session(SessionOptions("one more"))
    shared = speech(replace(limits, num_ingress=2), models=(measured,), cores=2.0)
    assert shared.status().max_sessions == max(1, most // 2)
    growing = speech(replace(limits, adds_replicas=True), models=(measured,))
    assert growing.status().max_sessions == DEFAULT_MAX_SESSIONS


async def test_new_sessions_are_refused_before_finals_are_late_and_admitted_ones_go_on() -> None:
    local = LocalInstruments()
    service = speech(AdmissionLimits(max_sessions=None), metrics=Metrics(local))
    (started,) = ToldEvents(service.open_session(SessionOptions("a"), ""))[:1]
    assert isinstance(started, SessionStarted)
    ladder, now_s = service._conductor._ladder, time.monotonic() - 10
    for _ in range(100):
        now_s += 0.1
        ladder.final_answered(800.0, 100.0, 4.0, now_s)
        ladder.step(now_s, num_finals=0, backlog_s=0.0)
    assert not service.status().accepting
    with pytest.raises(QueueCongestion, match="about 9.. ms"):
        service.open_session(SessionOptions("b"))
    service.open_session(SessionOptions("a"), started.ticket)
    assert local.value("stt_refused_total", {"request_type": "session", "reason": "queue_congestion"}) == 1
    ladder.step(time.monotonic() + 60, num_finals=0, backlog_s=0.0)
    service._conductor._clock = lambda: time.monotonic() + 60
    service.open_session(SessionOptions("c"))


async def test_what_the_models_for_finals_cannot_do_is_refused_at_the_door() -> None:
    turbo = ModelInfo("turbo", "final", "c2", "cpu", "int8", True, "", ("de", "en"), translates=False)
    service = speech(models=(turbo,))
    with pytest.raises(UnsupportedLanguage, match="translates into English.*turbo"):
        service.open_session(SessionOptions("a", language="de", task=Task.TRANSLATE))
    with pytest.raises(UnsupportedPolicy, match="align_att needs the onnx, torch or mlx engine"):
        service.open_session(SessionOptions("a", policy=PolicyOptions(PolicyName.ALIGN_ATT)))
    with pytest.raises(UnsupportedLanguage, match="'fr'"):
        await service.transcribe(np.zeros(1600, np.int16), RecordingOptions(language="fr"))
    service.open_session(SessionOptions("a", language="de"))
    attentive = replace(turbo, engine="torch", attention=True)
    service = speech(models=(attentive,))
    service.open_session(SessionOptions("b", policy=PolicyOptions(PolicyName.ALIGN_ATT)))


async def test_a_session_is_conditioned_and_told_of_bad_sound() -> None:
    options = SessionOptions(
        "a", language="en", level_warnings=True, conditioning=ConditioningOptions(gain_db=-6.0)
    )
    live = speech().open_session(options)
    told = ToldEvents(live)
    clipped = np.tile(np.array([32_767, -32_768], np.int16), 16_000)
    await live.push(clipped)
    heard = live.session._voice.slice(0, 16_000)
    assert 16_000 < int(np.abs(heard.astype(np.int32)).max()) < 16_800
    assert live.session.received_samples == len(clipped)
    live.cancel()
    warnings = [event for event in told if isinstance(event, SoundWarning)]
    assert [warning.kind for warning in warnings] == ["clipping"]


async def test_a_language_that_no_model_knows_is_refused_by_name() -> None:
    service = speech()
    with pytest.raises(UnsupportedLanguage, match=r"'de'.*tiny\.en"):
        service.open_session(SessionOptions("a", language="de"))
    with pytest.raises(UnsupportedLanguage, match="tiny"):
        await service.transcribe(np.zeros(16_000, np.int16), RecordingOptions(language="de"))


async def test_a_full_queue_refuses_recordings() -> None:
    recogniser = FakeRecogniser()
    recogniser.go_on.clear()
    service = speech(AdmissionLimits(max_recordings=1), recogniser)
    audio = speak([Say(1)])
    first = asyncio.create_task(service.transcribe(audio, RecordingOptions(language="en")))
    await recogniser.called.wait()
    with pytest.raises(QueueFull, match="1/1"):
        await service.transcribe(audio, RecordingOptions(language="en"))
    recogniser.go_on.set()
    assert (await first).text == "w1"


def long_talk() -> tuple[np.ndarray, list[str]]:
    words = [Say(number, ms=250, pause_ms=100 if number % 7 else 900) for number in range(1, 200)]
    return speak(words), [f"w{number}" for number in range(1, 200)]


@pytest.mark.parametrize("vad_filter", [True, False])
@pytest.mark.parametrize("language", ["en", None])
async def test_a_recording_comes_out_whole_and_in_order(vad_filter: bool, language: str | None) -> None:
    audio, expected = long_talk()
    shares: list[float] = []
    recogniser = FakeRecogniser(delay_s=lambda job: 0.001 * (job.job_id % 5))
    result = await speech(recogniser=recogniser).transcribe(
        audio, RecordingOptions(language=language, vad_filter=vad_filter), shares.append
    )
    assert result.text.split() == expected
    assert result.language == "en"
    assert [segment.start_s for segment in result.segments] == sorted(s.start_s for s in result.segments)
    assert shares == sorted(shares)
    assert 0.9 <= shares[-1] <= 1.0
    if language is None:
        assert [job.language for job in recogniser.jobs][:2] == [None, "en"]


async def test_a_window_that_cannot_be_decoded_fails_the_recording() -> None:
    audio, _ = long_talk()
    service = speech(recogniser=FakeRecogniser(fails=lambda job: job.job_id == 3))
    with pytest.raises(InferenceError, match="cannot decode"):
        await service.transcribe(audio, RecordingOptions(language="en"))
    assert (await service.transcribe(speak([Say(1)]), RecordingOptions(language="en"))).text == "w1"
