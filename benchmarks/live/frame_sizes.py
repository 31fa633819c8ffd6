"""What small audio frames cost the server: sessions that differ in nothing but the size of their frames.

    python -m benchmarks.live.frame_sizes --frame-ms 2.667,20,100 --seconds 60 --json out/frame_sizes.json

One session after another plays the same dialogue in real time at `--rate`. 2.667 ms are the 128 samples that
an AudioWorklet hands over at 48 kHz. CPU is that of all of the server's processes but the models', less what
they use while no session is open, for one minute of audio.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.clips import load_clips, session_plans
from benchmarks.report import command, command_line, print_columns, write_json
from benchmarks.service import ServiceUnderTest, cpu_between, overhead_s, say, service_under_test, snapshot
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.launch.cluster import LaunchError
from sotto_client.errors import SottoClientError
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.messages import FinalTranscript, SessionEnded

MIN_FRAME_MS, MAX_FRAME_MS = 1.0, 1000.0
IDLE_S = 10.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("frame_sizes", __doc__)
    parser.add_argument(
        "--frame-ms", type=_sizes, default="2.667,20,100", help="sizes, the last to compare with"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="audio for each size")
    parser.add_argument("--rate", type=int, default=48_000, help="samples a second, a multiple of 16000")
    parser.add_argument("--model", default="tiny.en", help="for a server started here")
    parser.add_argument("--url", help="a server that runs already on this machine")
    options = parser.parse_args(arguments)
    if options.seconds <= 0 or options.rate <= 0 or options.rate % SAMPLE_RATE_HZ:
        parser.error("--seconds must be positive, --rate a multiple of 16000")
    return options


def _sizes(text: str) -> tuple[float, ...]:
    try:
        sizes = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected milliseconds, separated by commas") from None
    if not all(MIN_FRAME_MS <= size <= MAX_FRAME_MS for size in sizes):
        raise argparse.ArgumentTypeError(f"frames must have {MIN_FRAME_MS:g} to {MAX_FRAME_MS:g} ms")
    return sizes


def spoken(seconds: float, rate_hz: int) -> Pcm16:
    """`seconds` of dialogue; at a higher rate each sample is repeated, which sounds well enough."""
    (plan,) = session_plans(load_clips(None), 1, seconds)
    samples = plan.samples()[: round(seconds * SAMPLE_RATE_HZ)]
    return np.repeat(samples, rate_hz // SAMPLE_RATE_HZ)


async def play(url: str, samples: Pcm16, rate_hz: int, frame_ms: float) -> dict[str, Any]:
    """One session in real time: what was sent, what came back."""
    num_frames, texts, counted_ms = 0, [], 0.0
    step = max(1, round(frame_ms * rate_hz / 1000))
    async with LiveClient(url) as client:
        await client.start(SessionConfig(lang_code="en", sample_rate=rate_hz))

        async def send() -> None:
            nonlocal num_frames
            began_s = time.perf_counter()
            for start in range(0, len(samples), step):
                await asyncio.sleep(max(0.0, began_s + start / rate_hz - time.perf_counter()))
                await client.send_audio(samples[start : start + step])
                num_frames += 1
            await client.end()

        sender = asyncio.create_task(send())
        try:
            async for message in client:
                if isinstance(message, FinalTranscript):
                    texts.append(message.text)
                elif isinstance(message, SessionEnded):
                    counted_ms = message.total_audio_ms
            await sender
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
    return {"frames": num_frames, "text": " ".join(texts), "counted_ms": counted_ms}


async def measure(service: ServiceUnderTest, options: argparse.Namespace) -> dict[str, Any]:
    samples = spoken(options.seconds, options.rate)
    await play(
        service.url, samples[: 5 * options.rate], options.rate, 100.0
    )  # what a first session alone pays
    idle_s_per_s = await _idle(service)
    rows = []
    for frame_ms in options.frame_ms:
        say(f"frames of {frame_ms:g} ms")
        before, began_s = snapshot(service.runtime_dir), time.perf_counter()
        played = await play(service.url, samples, options.rate, frame_ms)
        lasted_s = time.perf_counter() - began_s
        cpu = cpu_between(before, snapshot(service.runtime_dir))
        per_minute = 60 / options.seconds
        own_s = overhead_s(cpu) - idle_s_per_s * lasted_s
        rows.append(
            {
                "frame_ms": frame_ms,
                "frames_per_s": round(played["frames"] / options.seconds, 1),
                "cpu_s_per_minute": round(own_s * per_minute, 2),
                "ingress_s_per_minute": round(cpu.get("Ingress", 0.0) * per_minute, 2),
                "counted_ms": played["counted_ms"],
                "text": played["text"],
            }
        )
    for row in rows:
        row["ratio"] = round(row["cpu_s_per_minute"] / rows[-1]["cpu_s_per_minute"], 2)
    return {"idle_core_percent": round(100 * idle_s_per_s, 2), "rate_hz": options.rate, "sizes": rows}


async def _idle(service: ServiceUnderTest) -> float:
    """Seconds of CPU a second, models left out, while no session is open."""
    before = snapshot(service.runtime_dir)
    await asyncio.sleep(IDLE_S)
    return overhead_s(cpu_between(before, snapshot(service.runtime_dir))) / IDLE_S


def show(result: dict[str, Any]) -> None:
    print_columns(
        f"One live session at {result['rate_hz']} Hz, by the size of its frames",
        ("frame, ms", "frames a second", "CPU s a minute", "of it ingress", "ratio"),
        [
            [
                f"{row[name]:g}"
                for name in ("frame_ms", "frames_per_s", "cpu_s_per_minute", "ingress_s_per_minute", "ratio")
            ]
            for row in result["sizes"]
        ],
    )


@command(LaunchError, SottoClientError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    settings = {"model": options.model, "language": "en"}
    with service_under_test(options.url, settings=settings) as service:
        result = asyncio.run(measure(service, options))
    show(result)
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
