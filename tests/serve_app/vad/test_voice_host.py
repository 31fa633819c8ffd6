"""What a voice-activity replica does with a detector that hangs, or hears what is not there."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from fakes.fake_time import FakeClock
from fakes.silero_files import silero_file
from serve_app.audio.sample import speech_sample
from serve_app.core.errors import ModelUnavailable, ReplicaUnhealthy
from serve_app.core.idle_check import IDLE_PERIOD_S
from serve_app.vad.detector import SILERO_STATE, WEBRTC_STATE, PackedRequests, PackedResults, VadRequest
from serve_app.vad.detector import pack_requests as pack
from serve_app.vad.host import DEADLINE_S, VoiceHost
from serve_app.vad.webrtc import WebRtcDetector

SPEECH = np.full(512 * 8, 5_000, np.int16)
BATCH = pack([VadRequest(SPEECH)], SILERO_STATE)


class Loudness:
    """Hears speech in what is loud; `bias` is added, and no call returns while `gate` is shut."""

    window_samples = 512
    state_shape = SILERO_STATE

    def __init__(self, bias: float = 0.0) -> None:
        self.bias, self.gate, self.num_calls = bias, threading.Event(), 0
        self.gate.set()

    def detect_packed(self, batch: PackedRequests) -> PackedResults:
        self.num_calls += 1
        assert self.gate.wait(60)
        probs = (np.abs(batch.windows.astype(int)).max(1) > 1_000).astype(np.float32) + np.float32(self.bias)
        return PackedResults(probs, batch.counts, batch.recurrent, batch.context)


def host(detector: Loudness, clock: FakeClock) -> VoiceHost:
    return VoiceHost(detector, SPEECH, clock=clock)  # type: ignore[arg-type]


async def checks(voice: VoiceHost, clock: FakeClock, seconds: float) -> None:
    for _ in range(round(seconds / 5)):
        clock.pass_s(5)
        voice.check()
        if (task := voice._idle_check._task) is not None:
            await asyncio.gather(task)


@pytest.mark.parametrize(
    ("bias", "complaint"), [(-1.0, "speech in 0%"), (1.0, "of silence"), (np.nan, "not numbers")]
)
async def test_a_detector_that_does_not_hear_is_refused_and_found_out(bias: float, complaint: str) -> None:
    with pytest.raises(ModelUnavailable, match=complaint):
        host(Loudness(bias), FakeClock())
    detector, clock = Loudness(), FakeClock()
    voice = host(detector, clock)
    await checks(voice, clock, 3 * IDLE_PERIOD_S)
    assert detector.num_calls == 1 + 3
    detector.bias = bias
    with pytest.raises(ReplicaUnhealthy, match=complaint):
        await checks(voice, clock, IDLE_PERIOD_S + 10)
    with pytest.raises(ReplicaUnhealthy):
        await voice.detect(BATCH)


async def test_a_call_that_hangs_ends_for_its_caller_and_for_those_behind_it() -> None:
    detector, clock = Loudness(), FakeClock()
    voice = host(detector, clock)
    assert (await voice.detect(BATCH)).probs.all()
    detector.gate.clear()
    calls = [asyncio.create_task(voice.detect(BATCH)) for _ in range(3)]
    while detector.num_calls < 3:
        await asyncio.sleep(0.001)
    await checks(voice, clock, DEADLINE_S)
    with pytest.raises(ReplicaUnhealthy, match="has taken over 30 s: the voice detector hangs"):
        await checks(voice, clock, 5)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ReplicaUnhealthy] * 3
    detector.gate.set()


async def test_a_busy_detector_is_not_tried() -> None:
    detector, clock = Loudness(), FakeClock()
    voice = host(detector, clock)
    for _ in range(100):
        await voice.detect(BATCH)
        clock.pass_s(2)
        voice.check()
    assert detector.num_calls == 1 + 100


@pytest.mark.models
@pytest.mark.skipif(silero_file("silero_vad.onnx") is None, reason="the silero-vad wheel is not installed")
async def test_our_own_detectors_hear_the_clip() -> None:
    from serve_app.assembly.voice_activity import voice_host
    from serve_app.settings import Settings

    for voice in (voice_host(Settings()), VoiceHost(WebRtcDetector(), speech_sample())):
        shape = SILERO_STATE if voice._detector.state_shape == SILERO_STATE else WEBRTC_STATE
        whole = speech_sample()[: len(speech_sample()) // 512 * 512]
        probs = (await voice.detect(pack([VadRequest(whole)], shape))).probs
        assert np.mean(probs > 0.5) > 0.4
