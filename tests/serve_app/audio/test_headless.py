from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.encoded_audio import CONTAINERS, encoded
from serve_app.audio.headless import PROBE_BYTES, Sniffed, problem_of, sniff_stream

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[3]
FILES = CHECKOUT / "tests" / "golden" / "files"
SPOKEN = sorted((CHECKOUT / "audio" / "spoken").glob("*.flac"))
RAW = Sniffed()


def sniffed(data: bytes, step: int = 1) -> Sniffed:
    """What the stream is said to be as soon as anything is said, `step` bytes at a time."""
    for end in range(step, len(data) + step, step):
        found = sniff_stream(data[:end], ended=end >= len(data))
        if found is not None:
            return found
    raise AssertionError("an ended stream is something")


def samples_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def webm_from(element: bytes) -> bytes:
    data = encoded("webm")
    return data[data.index(element, data.index(b"\x1f\x43\xb6\x75") + (element == b"\xa3")) :]


@pytest.mark.parametrize("step", [1, 7, 640, 4_096])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_known_however_it_is_cut(name: str, step: int) -> None:
    wanted = "mp4" if name.startswith(("m4a", "mp4")) else name
    assert sniffed(encoded(name, 1.0), step) == Sniffed(wanted)


@pytest.mark.parametrize("begin", [0, 1, 100, 1_000, 3_333])
@pytest.mark.parametrize(("file", "format_name"), [("bare.mp3", "mp3"), ("plain.aac", "aac")])
def test_frames_without_any_tag_are_known_from_anywhere_on(file: str, format_name: str, begin: int) -> None:
    assert sniffed((FILES / file).read_bytes()[begin:]) == Sniffed(format_name)


def test_two_frames_are_enough_where_no_more_come() -> None:
    data = (FILES / "bare.mp3").read_bytes()
    assert sniff_stream(data[:500], ended=False) is None
    assert sniff_stream(data[:500], ended=True) == Sniffed("mp3")


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("name", ["mp3", "aac"])
def test_frames_of_every_rate_are_known(name: str, rate_hz: int) -> None:
    data = encoded(name, 1.0, rate_hz)
    data = data[data.index(b"\xff", 60) :] if name == "mp3" else data
    assert sniffed(data) == Sniffed(name)


@pytest.mark.parametrize(
    ("data", "format_name"),
    [
        (webm_from(b"\x1f\x43\xb6\x75"), "webm"),
        (webm_from(b"\xa3"), "webm"),
        (webm_from(b"\xa3")[9:], "webm"),
        (encoded("ogg")[encoded("ogg").index(b"OggS", 1) :], "ogg"),
        (encoded("ogg")[encoded("ogg").index(b"OggS", 200) - 300 :], "ogg"),
        (encoded("mp4_fragments")[encoded("mp4_fragments").index(b"moof") - 4 :], "mp4"),
    ],
)
def test_the_middle_of_a_recording_is_told_by_name(data: bytes, format_name: str) -> None:
    problem = sniffed(data).problem
    assert problem is not None
    assert problem.startswith(f"the {format_name} stream begins behind its header")


@pytest.mark.parametrize(
    "head", [b"RIFF\0\1\0\0AVI LIST", b"FLV\x01\5\0\0\0\x09", b"<!DOCTYPE html>", b"%PDF-1.7"]
)
def test_what_is_no_sound_that_is_taken_here_is_told(head: bytes) -> None:
    problem = sniffed(head + bytes(20)).problem
    assert problem is not None
    assert problem.endswith("cannot be decoded here")


def test_headers_that_are_whole_have_no_problem() -> None:
    assert all(problem_of(encoded(name, 1.0)[:16]) is None for name in CONTAINERS)


# never a container where it is sound


@pytest.mark.parametrize("path", SPOKEN, ids=lambda path: path.stem)
def test_speech_is_samples_wherever_it_begins(path: Path) -> None:
    samples = samples_of(path)
    for begin in range(0, len(samples) - PROBE_BYTES, len(samples) // 200):
        for scale in (1.0, 0.02):
            data = (samples[begin : begin + PROBE_BYTES // 2] * scale).astype("<i2").tobytes()
            assert sniff_stream(data, ended=False) == RAW
            assert sniff_stream(data, ended=True) == RAW


def test_silence_and_any_constant_are_samples() -> None:
    for level in range(-32_768, 32_768, 7):
        data = np.full(PROBE_BYTES // 2, level, "<i2").tobytes()
        assert sniff_stream(data, ended=False) == RAW


def test_the_pattern_of_a_frame_header_over_and_over_is_a_tone() -> None:
    for header in (
        b"\xff\xfb\x94\x00",
        b"\xff\xf3\x84\xc4",
        b"\xff\xf1\x50\x80",
        b"\xff\xfb\x94\x00" + bytes(12),
    ):
        assert sniff_stream(header * (PROBE_BYTES // len(header)), ended=False) == RAW


@settings(deadline=None, max_examples=300)
@given(
    st.floats(20.0, 8_000.0) | st.sampled_from([16_000 / period for period in range(2, 400)]),
    st.integers(0, 32_000),
    st.integers(-20_000, 20_000),
    st.floats(0.0, 6.3),
    st.integers(0, 4_000),
    st.integers(0, 2**32 - 1),
)
def test_tones_and_noise_are_samples(
    frequency_hz: float, amplitude: int, offset: int, phase: float, noise: int, seed: int
) -> None:
    t = np.arange(PROBE_BYTES // 2) / 16_000
    sound = offset + amplitude * np.sin(2 * np.pi * frequency_hz * t + phase)
    if noise:
        sound += np.random.default_rng(seed).normal(0, noise, len(t))
    data = np.clip(np.rint(sound), -32_768, 32_767).astype("<i2").tobytes()
    assert sniff_stream(data, ended=False) == RAW


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_something(head: bytes, ended: bool) -> None:
    found = sniff_stream(head, ended=ended)
    assert found is not None or not ended
