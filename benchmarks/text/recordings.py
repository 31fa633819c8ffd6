"""How fast an upload is transcribed, against faster-whisper's own batched pipeline on the same file.

    python -m benchmarks.text.recordings --minutes 10 --model tiny.en --json out/recordings.json

Both take the same WAV file, model, threads and beam; the two take turns, and the medians are compared. Ours
is the whole request (upload, decoding, answer), theirs the whole call (decoding of the file included); both
have been warmed up with a short clip. `speed_ratio` is their time over ours: above 1, ours is the faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import Clip, load_clips
from benchmarks.report import command, command_line, percent, print_table, write_json
from benchmarks.scoring import word_errors
from benchmarks.service import say, service_under_test
from benchmarks.text.peer_batched import BatchedPeer, PeerOptions, batched_peer
from serve_app.core.errors import SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.launch.cluster import LaunchError
from sotto_client.blocking import transcribe_file
from sotto_client.errors import SottoClientError
from sotto_client.recordings import UploadOptions


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("recordings", __doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--language", default="en")
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of either side")
    parser.add_argument("--url", help="a server that runs already, with this model, beam and threads")
    parser.add_argument("--clips", type=Path, help="a folder of recordings with their words")
    options = parser.parse_args(arguments)
    if options.minutes <= 0 or options.rounds < 1 or options.beam < 1 or options.threads < 1:
        parser.error("--minutes, --rounds, --beam and --threads must be positive")
    return options


def write_recording(path: Path, clips: Sequence[Clip], seconds: float) -> str:
    """Whole clips one after another, at least `seconds` of them, as a 16-bit WAV; returns what is said."""
    chosen: list[Clip] = []
    while sum(clip.duration_s for clip in chosen) < seconds:
        chosen.append(clips[len(chosen) % len(clips)])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        file.writeframes(np.concatenate([clip.samples for clip in chosen]).astype("<i2").tobytes())
    return " ".join(clip.text for clip in chosen)


def compare(
    url: str, peer: BatchedPeer, recording: Path, reference: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Alternate the two over `recording`; the order within a round changes from round to round."""
    ours_s: list[float] = []
    theirs_s: list[float] = []
    texts = {"ours": "", "theirs": ""}

    def ours() -> None:
        started = time.perf_counter()
        answer = transcribe_file(recording, url=url, options=UploadOptions(language=options.language))
        ours_s.append(time.perf_counter() - started)
        texts["ours"] = answer.transcript

    def theirs() -> None:
        texts["theirs"], seconds = peer.transcribe(recording)
        theirs_s.append(seconds)

    for number in range(options.rounds):
        for run in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            run()
        say(f"round {number + 1}: ours {ours_s[-1]:.2f} s, theirs {theirs_s[-1]:.2f} s")
    our_median_s, their_median_s = statistics.median(ours_s), statistics.median(theirs_s)
    with wave.open(str(recording)) as file:
        audio_s = file.getnframes() / SAMPLE_RATE_HZ
    return {
        "audio_s": round(audio_s, 2),
        "model": options.model,
        "beam": options.beam,
        "threads": options.threads,
        "rounds": options.rounds,
        "ours_s": round(our_median_s, 3),
        "theirs_s": round(their_median_s, 3),
        "ours_all_s": [round(value, 3) for value in ours_s],
        "theirs_all_s": [round(value, 3) for value in theirs_s],
        "speed_ratio": round(their_median_s / our_median_s, 4),
        "ours_times_real_time": round(audio_s / our_median_s, 2),
        "wer": round(word_errors([reference], [texts["ours"]]).rate, 4),
        "wer_theirs": round(word_errors([reference], [texts["theirs"]]).rate, 4),
    }


def show(result: dict[str, Any]) -> None:
    print_table(
        "A recording, against faster-whisper's batched pipeline",
        [
            ("audio, s", f"{result['audio_s']:.0f}"),
            ("model, beam, threads", f"{result['model']}, {result['beam']}, {result['threads']}"),
            ("ours, s (median)", f"{result['ours_s']:.2f}"),
            ("theirs, s (median)", f"{result['theirs_s']:.2f}"),
            ("speed ratio (theirs over ours)", f"{result['speed_ratio']:.2f}"),
            ("times real time", f"{result['ours_times_real_time']:.1f}"),
            ("word error rate, ours", percent(result["wer"])),
            ("word error rate, theirs", percent(result["wer_theirs"])),
        ],
    )


@command(LaunchError, SottoClientError, SottoError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    from serve_app.models.resolve import resolve_model

    options = parse_arguments(arguments)
    settings = {
        "model": options.model,
        "language": options.language,
        "beam_size": options.beam,
    }
    clips = load_clips(options.clips)
    model = resolve_model(options.model)
    peer_options = PeerOptions(model.path, options.threads, options.beam, options.language)
    with (
        tempfile.TemporaryDirectory(prefix="sotto-bench-") as folder,
        batched_peer(peer_options) as peer,
        service_under_test(options.url, settings=settings) as service,
    ):
        warm_up, recording = Path(folder) / "warm_up.wav", Path(folder) / "recording.wav"
        write_recording(warm_up, clips, 1.0)
        reference = write_recording(recording, clips, 60 * options.minutes)
        peer.transcribe(warm_up)
        transcribe_file(warm_up, url=service.url, options=UploadOptions(language=options.language))
        result = compare(service.url, peer, recording, reference, options)
    show(result)
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
