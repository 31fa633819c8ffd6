"""Audio files made on the spot: a chirp with noise, in whatever container a test asks for."""

from __future__ import annotations

import asyncio
import io
import struct
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

from serve_app.audio.stream_decoder import ContainerStream
from serve_app.core.samples import Pcm16

CONTAINERS = {
    "webm": ("webm", "libopus", {"live": "1"}),
    "ogg": ("ogg", "libopus", {"page_duration": "200000"}),
    "mp3": ("mp3", "mp3", {}),
    "flac": ("flac", "flac", {}),
    "wav": ("wav", "pcm_s16le", {}),
    "m4a": ("ipod", "aac", {}),
    "m4a_faststart": ("ipod", "aac", {"movflags": "faststart"}),
    "mp4_fragments": (
        "mp4",
        "aac",
        {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "200000"},
    ),
    "aac": ("adts", "aac", {}),
    "aiff": ("aiff", "pcm_s16be", {}),
    "caf": ("caf", "pcm_s16be", {}),
}
"""Name -> muxer, encoder, muxer options."""


@cache
def chirp(seconds: float, rate_hz: int) -> np.ndarray:
    """int16 `(n,)`: 200 to 1400 Hz over the whole length, so that every moment sounds different."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).normal(0, 60, len(t))
    return (9_000 * np.sin(2 * np.pi * (200 + 600 * t / seconds) * t) + noise).astype(np.int16)


@cache
def encoded(name: str, seconds: float = 4.0, rate_hz: int = 48_000) -> bytes:
    """`chirp` in the container that `CONTAINERS` calls `name`."""
    muxer, codec, options = CONTAINERS[name]
    with tempfile.TemporaryDirectory() as folder:
        # Into a file: the muxer that moves an index to the front opens its output a second time.
        path = Path(folder) / "audio"
        with av.open(str(path), "w", format=muxer, options=options) as container:
            _encode(container, codec, chirp(seconds, rate_hz), rate_hz)
        return path.read_bytes()


def _encode(container: av.container.OutputContainer, codec: str, samples: np.ndarray, rate_hz: int) -> None:
    stream = container.add_stream(codec, rate=rate_hz, layout="mono")
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
    frame.sample_rate = rate_hz
    resampler = av.AudioResampler(
        format=stream.format,
        layout="mono",
        rate=rate_hz,
        frame_size=stream.codec_context.frame_size or rate_hz // 50,
    )
    for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
        for packet in stream.encode(piece):
            container.mux(packet)


def wav(samples: np.ndarray, rate_hz: int, data_bytes: int | None = None) -> bytes:
    """A WAV file of int16 `(n,)` or `(n, channels)`; `data_bytes` is what its header claims."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    raw = samples.astype("<i2").tobytes()
    size = len(raw) if data_bytes is None else data_bytes
    out = io.BytesIO()
    out.write(b"RIFF" + struct.pack("<I", min(36 + size, 0xFFFFFFFF)) + b"WAVEfmt ")
    out.write(struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, rate_hz * channels * 2, channels * 2, 16))
    out.write(b"data" + struct.pack("<I", size) + raw)
    return out.getvalue()


@cache
def silent_film() -> bytes:
    """An mp4 with a picture and no sound."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for piece in [av.VideoFrame(32, 32, "yuv420p"), None]:
            for packet in stream.encode(piece):
                container.mux(packet)
    return out.getvalue()


Pieces = list[tuple[float, np.ndarray]]
"""Sounds and the times at which they begin, in seconds; int16 `(n,)` at 48 kHz."""


def timed(
    name: str,
    tracks: list[Pieces],
    *,
    picture_s: float = 0.0,
    default: int = 0,
    picture_from_s: float = 0.0,
    rate_hz: int = 48_000,
) -> bytes:
    """A container as `CONTAINERS` calls it (or "mkv", "webm_file") whose sounds stand at times of their own.

    `picture_s`: with a picture of that length beside them. `default`: the track that a player should take.
    """
    muxer, codec, options = (CONTAINERS | MORE_CONTAINERS)[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film"
        with av.open(str(path), "w", format=muxer, options=options) as container:
            packets = _picture(container, picture_s, picture_from_s) if picture_s else []
            for index, pieces in enumerate(tracks):
                stream = container.add_stream(codec, rate=rate_hz, layout="mono")
                stream.disposition = av.stream.Disposition.default if index == default else 0
                packets += _timed_packets(stream, pieces, rate_hz)
            for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
                container.mux(packet)
        return path.read_bytes()


MORE_CONTAINERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mkv": ("matroska", "aac", {}),
    "webm_file": ("webm", "libopus", {}),
}


def _picture(container: av.container.OutputContainer, seconds: float, from_s: float) -> list[av.Packet]:
    stream = container.add_stream("vp8" if "webm" in container.format.name else "mpeg4", rate=5)
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    packets = []
    for index in range(round(seconds * 5)):
        frame = av.VideoFrame(32, 32, "yuv420p")
        frame.pts = index + round(from_s * 5)
        frame.time_base = Fraction(1, 5)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def _timed_packets(stream: av.AudioStream, pieces: Pieces, rate_hz: int) -> list[av.Packet]:
    """Each piece's frames follow one another; between pieces the clock goes on and no frame is there."""
    stream.time_base = Fraction(1, rate_hz)
    size = 960 if "opus" in stream.codec_context.name else 1_024
    packets = []
    for start_s, samples in pieces:
        for at in range(0, len(samples) - size + 1, size):
            frame = av.AudioFrame.from_ndarray(
                samples[np.newaxis, at : at + size], format="s16", layout="mono"
            )
            frame.sample_rate = rate_hz
            frame.pts = round(start_s * rate_hz) + at
            frame.time_base = Fraction(1, rate_hz)
            for fitting in av.AudioResampler(stream.format, "mono", rate_hz, frame_size=size).resample(frame):
                packets += stream.encode(fitting)
    return [*packets, *stream.encode(None)]


async def streamed(data: bytes, chunk_bytes: int) -> tuple[Pcm16, ContainerStream]:
    """All samples of a container that comes in chunks, and the stream with what it has to say of them."""
    pieces: list[Pcm16] = []

    async def collect(stream: ContainerStream) -> None:
        async for chunk in stream.samples():
            pieces.append(chunk)

    async with ContainerStream() as stream, asyncio.TaskGroup() as tasks:
        tasks.create_task(collect(stream))
        for start in range(0, len(data), chunk_bytes):
            await stream.feed(data[start : start + chunk_bytes])
        stream.finish()
    return np.concatenate(pieces), stream
