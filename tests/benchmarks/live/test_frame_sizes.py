import asyncio

import numpy as np
import pytest

from benchmarks.live import frame_sizes
from benchmarks.service import CpuSnapshot, ServiceUnderTest
from fakes.speech_server import running_fake_server


def test_arguments_are_checked():
    assert frame_sizes.parse_arguments([]).frame_ms == (2.667, 20.0, 100.0)
    for wrong in (
        ["--frame-ms", "0.5"],
        ["--frame-ms", "ten"],
        ["--frame-ms", ""],
        ["--rate", "44100"],
        ["--seconds", "0"],
    ):
        with pytest.raises(SystemExit):
            frame_sizes.parse_arguments(wrong)


def test_the_dialogue_has_the_length_and_rate_that_were_asked_for():
    samples = frame_sizes.spoken(2.0, 48_000)
    assert len(samples) == 96_000
    assert np.array_equal(samples[::3], samples[2::3])


async def test_all_audio_is_sent_in_frames_of_the_size():
    with running_fake_server() as url:
        played = await frame_sizes.play(url, np.zeros(4_800, np.int16), 48_000, 2.667)
    assert played["frames"] == -(-4_800 // 128)
    assert played["counted_ms"] == 4_800 * 2 / 32  # the fake counts bytes of 16 kHz


def test_what_it_costs_is_compared_with_the_last_size(monkeypatch, capsys):
    used_s = iter([0.0, 1.0, 10.0, 14.0, 20.0, 23.0])  # idle, then each size: before and after

    def snapshot(_):
        return CpuSnapshot({1: ("Ingress", next(used_s)), 2: ("Recogniser", 99.0)}, {})

    async def play(url, samples, rate_hz, frame_ms):
        return {"frames": 50, "text": "", "counted_ms": 1000.0}

    async def sleep(seconds):
        return None

    monkeypatch.setattr(frame_sizes, "snapshot", snapshot)
    monkeypatch.setattr(frame_sizes, "play", play)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    options = frame_sizes.parse_arguments(["--frame-ms", "10,100", "--seconds", "60"])
    result = asyncio.run(frame_sizes.measure(ServiceUnderTest("http://unused", None), options))
    assert result["idle_core_percent"] == 10.0
    assert [row["cpu_s_per_minute"] for row in result["sizes"]] == [4.0, 3.0]
    assert [row["ratio"] for row in result["sizes"]] == [1.33, 1.0]
    frame_sizes.show(result)
    assert "1.33" in capsys.readouterr().out
