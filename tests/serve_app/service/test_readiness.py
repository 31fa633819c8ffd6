"""Ready is what answers and has its models; what was lost is named."""

from __future__ import annotations

from fakes.fake_time import FakeClock
from serve_app.service.readiness import LOST_AFTER_S, Readiness


def test_not_before_every_required_deployment_has_answered() -> None:
    readiness = Readiness(["VoiceActivity", "Recogniser"], ["Diarization"], FakeClock())
    assert not readiness.ready
    readiness.answered("Recogniser")
    assert not readiness.ready
    assert readiness.silent == ("VoiceActivity", "Diarization")
    readiness.answered("VoiceActivity")
    assert readiness.ready
    assert readiness.silent == ("Diarization",)


def test_one_that_falls_silent_is_named_and_comes_back() -> None:
    clock = FakeClock()
    readiness = Readiness(["VoiceActivity", "Recogniser"], clock=clock)
    for _ in range(20):
        readiness.answered("VoiceActivity")
        readiness.answered("Recogniser")
        clock.pass_s(5)
        assert readiness.ready
    for _ in range(4):
        clock.pass_s(LOST_AFTER_S / 4)
        readiness.answered("VoiceActivity")
    assert not readiness.ready
    assert readiness.silent == ("Recogniser",)
    readiness.answered("Recogniser")
    assert readiness.ready
    assert readiness.silent == ()


def test_nothing_that_is_asked_for_is_ready() -> None:
    assert Readiness().ready
