"""What `make demo` runs: the service, one dialogue through three of its doors, and how well it went.

Starts the graph on a free port, streams `audio/spoken/visit.flac` in real time over the WebSocket and prints
the text as it arrives, uploads the same file to `POST /transcribe` and `POST /transcribe/stream`, prints the
three transcripts with their word error rates, and stops what it started. Where pyannote.audio is installed
(`make speakers`), the first two say who spoke. Exits with 1 where a door failed, a word error rate is above
the limit, or the dialogue's two speakers were not found.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from benchmarks.clips import SPOKEN_DIR, Clip, load_clips
from benchmarks.report import command, command_line, percent, print_table
from benchmarks.scoring import word_errors
from benchmarks.service import service_under_test
from serve_app.assembly.speakers import status_of
from serve_app.cli.live import live_screen, show
from serve_app.core.errors import SottoError
from serve_app.launch.cluster import LaunchError
from serve_app.settings import load_settings
from sotto_client.errors import SottoClientError
from sotto_client.live import SessionConfig
from sotto_client.live_streams import stream_samples
from sotto_client.messages import FinalTranscript, SpeakerRevision
from sotto_client.recordings import UploadOptions, transcribe_file
from sotto_client.streams import file_chunks, transcribe_stream

CLIP = "visit"
LANGUAGE = "en"
MAX_WER = 0.06
NUM_SPEAKERS = 2
WRAP_COLUMNS = 96


@dataclass(frozen=True, slots=True)
class DoorResult:
    """`turns`: speaker and text of each, where the door was asked who spoke."""

    door: str
    text: str
    seconds: float
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def num_speakers(self) -> int:
        return len({speaker for speaker, _ in self.turns})


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("demo", __doc__, with_json=False)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--speed", type=float, default=1.0, help="pace of the live session, 1 is real time")
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--max-wer", type=float, default=MAX_WER)
    return parser.parse_args(arguments)


async def through_websocket(url: str, clip: Clip, speed: float, diarize: bool) -> DoorResult:
    started = time.perf_counter()
    finals: dict[str, FinalTranscript] = {}
    speakers: dict[str, str | None] = {}
    config = SessionConfig(lang_code=LANGUAGE, diarization=diarize or None)
    session = stream_samples(url, clip.samples, config=config, speed=speed)
    async with aclosing(session) as messages:
        with live_screen() as screen:
            async for message in messages:
                show(message, screen, speakers)
                if isinstance(message, FinalTranscript):
                    finals[message.segment_id] = message
                elif isinstance(message, SpeakerRevision):
                    finals[message.segment_id] = message.applied_to(finals[message.segment_id])
    text = " ".join(final.text for final in finals.values())
    turns = tuple((final.speaker or "unknown", final.text) for final in finals.values() if diarize)
    return DoorResult("WebSocket /ws/stt", text, time.perf_counter() - started, turns)


async def through_upload(url: str, diarize: bool) -> DoorResult:
    started = time.perf_counter()
    answer = await transcribe_file(
        SPOKEN_DIR / f"{CLIP}.flac",
        url=url,
        options=UploadOptions(language=LANGUAGE, diarize=diarize or None),
    )
    turns = tuple((part.speaker or "unknown", part.text) for part in answer.segments if diarize)
    return DoorResult("POST /transcribe", answer.transcript, time.perf_counter() - started, turns)


async def through_stream(url: str) -> DoorResult:
    started, finals = time.perf_counter(), []
    data = await asyncio.to_thread((SPOKEN_DIR / f"{CLIP}.flac").read_bytes)
    stream = transcribe_stream(
        file_chunks(data), url=url, content_type="audio/flac", query={"language": LANGUAGE}
    )
    async with aclosing(stream) as messages:
        async for message in messages:
            if isinstance(message, FinalTranscript):
                finals.append(message.text)
    return DoorResult("POST /transcribe/stream", " ".join(finals), time.perf_counter() - started)


async def run_doors(url: str, clip: Clip, speed: float, diarize: bool) -> list[DoorResult]:
    print(f"\nLive over the WebSocket, {clip.duration_s:.0f} s of a dialogue at {speed:g} times real time:\n")
    live = await through_websocket(url, clip, speed, diarize)
    print("\nThe same file uploaded, and streamed up while the answer streams down ...", flush=True)
    return [live, await through_upload(url, diarize), await through_stream(url)]


def report(results: Sequence[DoorResult], clip: Clip, max_wer: float) -> bool:
    """Print all transcripts and the table; True where every door is within the limit."""
    rows, good = [], True
    for result in results:
        wer = word_errors([clip.text], [result.text]).rate
        good = good and wer <= max_wer
        print(f"\n{result.door}:")
        for line in [f"{who}: {text}" for who, text in result.turns] or [result.text]:
            print(textwrap.fill(line, WRAP_COLUMNS, initial_indent="  ", subsequent_indent="  "))
        speakers = f", {result.num_speakers} speakers" if result.turns else ""
        good = good and result.num_speakers in (0, NUM_SPEAKERS)
        rows.append((result.door, f"word error rate {percent(wer)}{speakers}, {result.seconds:.1f} s"))
    print()
    print_table(f"{CLIP}.flac, {clip.duration_s:.1f} s", rows)
    if not good:
        print(f"A word error rate is above {percent(max_wer)}, or not {NUM_SPEAKERS} speakers were found.")
    return good


@command(LaunchError, SottoClientError, SottoError, status=1)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    (clip,) = load_clips(names=(CLIP,))
    diarize = status_of(load_settings()).available
    given = {"language": LANGUAGE} | ({"diarization": True} if diarize else {})
    with service_under_test(options.url, profile=options.profile, settings=given) as service:
        results = asyncio.run(run_doors(service.url, clip, options.speed, diarize))
    return 0 if report(results, clip, options.max_wer) else 1


if __name__ == "__main__":
    sys.exit(main())
