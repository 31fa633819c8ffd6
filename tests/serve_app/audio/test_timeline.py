"""Times of the file: holes, late beginnings, clocks that jump."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from fakes.encoded_audio import Pieces, chirp, encoded, timed
from serve_app.audio.recordings import decode_recording
from serve_app.audio.stream_decoder import ContainerStream
from serve_app.audio.timeline import TOLERANCE_S, Timeline

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[2] / "golden" / "files"
SOUND = chirp(1.0, 48_000)
HOLE: Pieces = [(0.0, SOUND), (6.0, SOUND)]
LATE: Pieces = [(4.0, SOUND)]


def heard(samples: np.ndarray) -> list[tuple[float, float]]:
    """Stretches of sound, in seconds."""
    blocks = samples[: len(samples) // 160 * 160].astype(float).reshape(-1, 160)
    loud = np.r_[0, (np.sqrt(np.mean(blocks**2, axis=1)) > 500).astype(int), 0]
    edges = np.flatnonzero(np.diff(loud)).reshape(-1, 2)
    return [(float(a) / 100, float(b) / 100) for a, b in edges if b - a > 3]


def assert_heard(samples: np.ndarray, *wanted: float) -> None:
    """Sounds of a second, at these times."""
    assert [start for start, _ in heard(samples)] == pytest.approx(wanted, abs=0.04)
    assert [end for _, end in heard(samples)] == pytest.approx([start + 1 for start in wanted], abs=0.04)


async def streamed(data: bytes, chunk_bytes: int, **limits: int) -> tuple[np.ndarray, str | None]:
    pieces: list[np.ndarray] = []

    async def collect(stream: ContainerStream) -> None:
        async for chunk in stream.samples():
            pieces.append(chunk)

    async with ContainerStream(**limits) as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(collect(stream))
        for start in range(0, len(data), chunk_bytes):
            await stream.feed(data[start : start + chunk_bytes])
        stream.finish()
    return np.concatenate(pieces), stream.warning


@pytest.mark.parametrize("name", ["webm", "webm_file", "mkv", "m4a", "m4a_faststart", "mp4_fragments", "ogg"])
def test_a_hole_is_silence(name: str) -> None:
    recording = decode_recording(timed(name, [HOLE]))
    assert_heard(recording.samples, 0.0, 6.0)
    assert recording.warning is None


@pytest.mark.parametrize("name", ["webm", "mkv", "mp4_fragments", "ogg"])
@pytest.mark.parametrize("chunk_bytes", [100, 1_000_000])
async def test_a_hole_is_silence_live(name: str, chunk_bytes: int) -> None:
    samples, warning = await streamed(timed(name, [HOLE]), chunk_bytes)
    assert_heard(samples, 0.0, 6.0)
    assert warning is None


@pytest.mark.parametrize("name", ["webm", "webm_file", "mkv", "m4a", "m4a_faststart", "mp4_fragments"])
async def test_sound_that_begins_after_the_picture(name: str) -> None:
    data = timed(name, [LATE], picture_s=6.0)
    recording = decode_recording(data)
    assert_heard(recording.samples, 4.0)
    assert recording.warning is None
    if name != "m4a":
        samples, warning = await streamed(data, 997)
        assert_heard(samples, 4.0)
        assert warning is None


@pytest.mark.parametrize("name", ["webm_file", "mkv", "m4a"])
def test_a_file_that_states_its_length_counts_it_from_0(name: str) -> None:
    recording = decode_recording(timed(name, [LATE]))
    assert_heard(recording.samples, 4.0)
    assert recording.warning is None


@pytest.mark.parametrize("name", ["webm", "mp4_fragments"])
async def test_a_stream_that_was_joined_late_begins_with_what_it_has(name: str) -> None:
    data = timed(name, [[(3_003.0, SOUND)]], picture_s=5.0, picture_from_s=3_000.0)
    assert_heard(decode_recording(data).samples, 3.0)
    samples, _ = await streamed(data, 997)
    assert_heard(samples, 3.0)
    alone = timed(name, [[(3_003.0, SOUND)]])
    assert_heard((await streamed(alone, 997))[0], 0.0)


def test_the_files_of_real_recorders() -> None:
    hole = decode_recording(GOLDEN / "t01_hole.webm")
    assert (hole.duration_s, hole.warning) == (pytest.approx(19.4, abs=0.02), None)
    assert not hole.samples[5 * 16_000 : 14 * 16_000].any()
    assert np.abs(hole.samples[round(15.4 * 16_000) :].astype(int)).max() > 3_000
    late = decode_recording(GOLDEN / "t02_late.mp4")
    assert (late.duration_s, late.warning) == (pytest.approx(7.85, abs=0.03), None)
    assert not late.samples[: round(3.9 * 16_000)].any()


async def test_a_hole_of_years_is_not_followed() -> None:
    data = timed("mkv", [[(0.0, SOUND), (1_000_000.0, SOUND)]])
    recording = decode_recording(data)
    assert recording.duration_s == pytest.approx(2.0, abs=0.1)
    assert recording.warning is not None
    assert "times jump by 999999 s" in recording.warning
    samples, warning = await streamed(data, 500, max_samples=60 * 16_000)
    assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.1)
    assert warning == recording.warning


def test_no_hole_is_longer_than_what_may_come() -> None:
    data = timed("webm", [HOLE])
    assert decode_recording(data, max_samples=8 * 16_000).duration_s == pytest.approx(7.0, abs=0.05)
    assert decode_recording(data, max_samples=6 * 16_000).duration_s == pytest.approx(2.0, abs=0.05)


def test_channels_share_the_silence() -> None:
    recording = decode_recording(timed("webm", [HOLE]), keep_channels=True)
    assert recording.samples.shape[1] == 1
    assert_heard(recording.samples[:, 0], 0.0, 6.0)


@pytest.mark.parametrize("name", ["webm", "mp3", "m4a", "aac", "ogg", "wav"])
def test_delays_of_encoders_are_no_holes(name: str) -> None:
    assert heard(decode_recording(encoded(name)).samples)[0][0] < 0.05


def test_the_default_track_is_taken_and_others_on_request() -> None:
    data = timed("mkv", [[(0.0, SOUND)], [(2.0, SOUND)]], default=1)
    assert_heard(decode_recording(data).samples, 2.0)
    assert_heard(decode_recording(data, audio_track=0).samples, 0.0)
    assert_heard(decode_recording(data, audio_track=1).samples, 2.0)
    with pytest.raises(Exception, match="audio_track 2: there is no such audio track, the tracks are 0 to 1"):
        decode_recording(data, audio_track=2)
    with pytest.raises(Exception, match="audio_track 1: there is no such audio track, the only track is 0"):
        decode_recording(encoded("wav"), audio_track=1)


@pytest.mark.parametrize("name", ["t04_second_default.mkv", "t04_both.mkv"])
def test_the_default_track_of_a_film(name: str) -> None:
    default = decode_recording(GOLDEN / name).samples
    np.testing.assert_array_equal(default, decode_recording(GOLDEN / name, audio_track=1).samples)
    first = decode_recording(GOLDEN / name, audio_track=0).samples
    assert len(first) != len(default)


async def test_the_default_track_live() -> None:
    data = timed("webm", [[(0.0, SOUND)], [(2.0, SOUND)]], default=1)
    assert_heard((await streamed(data, 700))[0], 2.0)


# -- the clock alone ---------------------------------------------------------------------------


def placed(times_s: list[float | None], start_s: float | None = 0.0) -> list[float]:
    """Frames of 0.1 s at these times: seconds of silence before each."""
    timeline = Timeline(start_s)
    gaps = []
    for time_s in times_s:
        gap = timeline.gap(time_s)
        timeline.advance(gap + 1_600)
        gaps.append(gap / 16_000)
    return gaps


def test_coarse_clocks_and_missing_times_are_no_gaps() -> None:
    rng = np.random.default_rng(0)
    jitter = rng.uniform(-TOLERANCE_S / 2, TOLERANCE_S / 2, 50)
    assert placed([float(0.1 * i + jitter[i]) for i in range(50)]) == [0] * 50
    assert placed([None, None, float("nan"), None]) == [0] * 4


def test_small_gaps_add_up() -> None:
    gaps = placed([0.14 * i for i in range(100)])
    assert sum(gaps) == pytest.approx(3.96, abs=TOLERANCE_S)
    assert max(gaps) < 0.2


def test_a_clock_that_begins_anew_is_followed() -> None:
    times = [0.1 * i for i in range(50)] + [0.1 * i for i in range(20)] + [5.0]
    gaps = placed([float(time) for time in times])
    assert gaps[:70] == [0] * 70
    assert gaps[70] == pytest.approx(3.0)  # 3 s behind the end of what began anew


def test_one_wrong_time_changes_nothing() -> None:
    times: list[float | None] = [0.1 * i for i in range(50)]
    times[20] = 0.3
    assert placed(times) == [0] * 50
