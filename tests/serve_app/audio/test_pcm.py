from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.encoded_audio import chirp
from serve_app.audio.pcm import ENCODINGS, Encoding, PcmStream
from serve_app.core.errors import InvalidAudio

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)


def decode(data: bytes, cuts: list[int], encoding: Encoding, rate_hz: int, channels: int = 1) -> np.ndarray:
    stream = PcmStream(encoding, rate_hz, channels)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [stream.push(data[a:b]) for a, b in itertools.pairwise(edges)]
    return np.concatenate([*pieces, stream.finish()])


@settings(deadline=None)
@given(
    st.sampled_from(ENCODINGS),
    st.sampled_from(RATES_HZ),
    st.sampled_from([1, 2]),
    st.lists(st.integers(0, 50_000), max_size=40),
    st.integers(0, 2**32 - 1),
)
def test_the_cutting_of_the_bytes_changes_nothing(
    encoding: Encoding, rate_hz: int, channels: int, cuts: list[int], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    if encoding == "float32":
        data = generator.uniform(-1.2, 1.2, 4_000).astype("<f4").tobytes()
    else:
        data = generator.bytes(9_001)
    whole = decode(data, [], encoding, rate_hz, channels)
    np.testing.assert_array_equal(decode(data, cuts, encoding, rate_hz, channels), whole)


def test_byte_by_byte_is_the_same_too() -> None:
    data = chirp(0.05, 44_100).tobytes()
    whole = decode(data, [], "pcm16", 44_100)
    np.testing.assert_array_equal(decode(data, list(range(len(data))), "pcm16", 44_100), whole)


def test_16_khz_mono_passes_through_without_a_copy() -> None:
    data = chirp(0.1, 16_000).tobytes()
    samples = PcmStream().push(data)
    assert np.shares_memory(samples, np.frombuffer(data, np.int16))
    np.testing.assert_array_equal(samples, chirp(0.1, 16_000))


@pytest.mark.parametrize("rate_hz", [rate for rate in RATES_HZ if rate != 16_000])
def test_resampling_keeps_the_sound_and_the_time(rate_hz: int) -> None:
    t = np.arange(rate_hz) / rate_hz
    tone = (10_000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    got = decode(tone.tobytes(), [], "pcm16", rate_hz)
    wanted = 10_000 * np.sin(2 * np.pi * 440 * np.arange(len(got)) / 16_000)
    assert abs(len(got) - 16_000) <= 2
    assert np.abs(got - wanted)[100:-100].max() < 60


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_holds_back_no_more_than_a_few_milliseconds(rate_hz: int) -> None:
    stream = PcmStream("pcm16", rate_hz)
    pushed_s, got = 0.0, 0
    for _ in range(25):
        block = np.zeros(rate_hz // 50, np.int16)
        pushed_s += len(block) / rate_hz
        got += len(stream.push(block.tobytes()))
        assert pushed_s - got / 16_000 < 0.015


def test_a_tone_over_the_new_nyquist_frequency_is_filtered_out() -> None:
    t = np.arange(48_000) / 48_000
    tone = (10_000 * np.sin(2 * np.pi * 11_000 * t)).astype(np.int16)
    assert np.abs(decode(tone.tobytes(), [], "pcm16", 48_000))[100:-100].max() < 100


def test_float_is_clipped_and_what_is_no_number_is_silence() -> None:
    values = np.array([0.0, 0.5, -0.5, 1.0, -1.0, 7.0, -7.0, np.nan, np.inf, -np.inf], "<f4")
    got = PcmStream("float32").push(values.tobytes())
    top, bottom = 32_767, -32_768
    assert got.tolist() == [0, 16_384, -16_384, top, bottom, top, bottom, 0, top, bottom]


def test_float_is_the_exact_inverse_of_int16() -> None:
    samples = np.arange(-32_768, 32_768, dtype=np.int16)
    data = (samples.astype("<f4") / 32_768).tobytes()
    np.testing.assert_array_equal(PcmStream("float32").push(data), samples)


@pytest.mark.parametrize(
    ("encoding", "code", "sample"),
    [
        ("mulaw", 0xFF, 0),
        ("mulaw", 0x7F, 0),
        ("mulaw", 0x80, 32_124),
        ("mulaw", 0x00, -32_124),
        ("mulaw", 0xEF, 132),
        ("alaw", 0xD5, 8),
        ("alaw", 0x55, -8),
        ("alaw", 0xAA, 32_256),
        ("alaw", 0x2A, -32_256),
        ("alaw", 0xC5, 264),
    ],
)
def test_g711_reference_values(encoding: Encoding, code: int, sample: int) -> None:
    assert PcmStream(encoding, 16_000).push(bytes([code])).tolist() == [sample]


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_g711_agrees_with_ffmpeg_on_every_code(encoding: Encoding, codec: str) -> None:
    import av

    decoder = av.CodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout = 8_000, "mono"
    (frame,) = decoder.decode(av.Packet(bytes(range(256))))
    np.testing.assert_array_equal(PcmStream(encoding, 16_000).push(bytes(range(256))), frame.to_ndarray()[0])


def test_channels_are_mixed_down_by_their_mean() -> None:
    data = np.array([[100, 300], [-32_768, -32_768], [32_767, 32_767]], "<i2").tobytes()
    assert PcmStream("pcm16", 16_000, 2).push(data).tolist() == [200, -32_768, 32_767]


@pytest.mark.parametrize(("encoding", "num_bytes"), [("pcm16", 641), ("float32", 642)])
def test_strict_refuses_half_samples_and_goes_on(encoding: Encoding, num_bytes: int) -> None:
    stream = PcmStream(encoding)
    with pytest.raises(InvalidAudio, match=f"{num_bytes} bytes of audio: expected a multiple of"):
        stream.push(bytes(num_bytes), strict=True)
    assert len(stream.push(bytes(640), strict=True)) > 0
    assert stream.num_dangling_bytes == 0


def test_half_a_sample_at_the_end_is_told_and_dropped() -> None:
    stream = PcmStream()
    assert stream.push(b"\x01\x00\x02").tolist() == [1]
    assert stream.num_dangling_bytes == 1
    assert len(stream.finish()) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_rate_hz": 7_999}, "sample rate 7999 Hz: expected 8000 to 192000"),
        ({"sample_rate_hz": 192_001}, "sample rate 192001"),
        ({"channels": 0}, "0 channels"),
        ({"channels": 9}, "9 channels"),
        ({"encoding": "pcm24"}, "unknown encoding 'pcm24'"),
    ],
)
def test_refuses_what_it_cannot_take(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidAudio, match=message):
        PcmStream(**arguments)  # type: ignore[arg-type]
