"""How late labels are on the running service, and whether an upload's two halves run at the same time.

    python -m benchmarks.speakers.lag --sessions 4 --seconds 60 --model tiny.en
    python -m benchmarks.speakers.lag --upload-seconds 300

Live: dialogues in real time, several sessions at once, as in benchmarks.live.sessions. A final's lag runs
from its arrival to when all of its words have a speaker: 0 where it came with them. `final_latency_ms` (from
the moment that the chunk which decided a final was sent) is given beside that of the same load without
speakers. Upload: the same recording with and without `diarize`, one worker and one thread each, and the
diarizer alone in this process: with both at once the answer should take little longer than the slower one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET

from benchmarks.clips import DIALOGUES, Clip
from benchmarks.live.load import SessionLog, record_session
from benchmarks.report import command, command_line, print_table, write_json
from benchmarks.scoring import Percentiles, Summed
from benchmarks.service import service_under_test
from benchmarks.speakers.recordings import load_recordings
from benchmarks.text.recordings import write_recording
from serve_app.core.errors import SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.launch.cluster import LaunchError
from sotto_client.errors import SottoClientError
from sotto_client.live import SessionConfig
from sotto_client.messages import FinalTranscript, SpeakerRevision
from sotto_client.recordings import Transcription, UploadOptions, transcribe_file

RAMP_S = 3.0
CHUNK_MS = 100


@dataclass(slots=True)
class Lags(Summed):
    """Of one session or several; milliseconds. `unlabelled` finals never got a speaker for every word."""

    label_ms: list[float] = field(default_factory=list)
    final_ms: list[float] = field(default_factory=list)
    unlabelled: int = 0
    revised: int = 0
    speakers: list[int] = field(default_factory=list)


def lags_of(log: SessionLog) -> Lags:
    """Of one recorded session."""
    lags = Lags()
    came_s: dict[str, float] = {}
    finals: dict[str, FinalTranscript] = {}
    labelled: set[str] = set()
    speakers: set[str] = set()
    for arrival in log.arrivals:
        match arrival.message:
            case FinalTranscript() as final:
                if final.endpoint_ms is not UNSET:
                    lags.final_ms.append((arrival.at_s - log.sent_s(final.endpoint_ms)) * 1000)
                came_s[final.segment_id] = arrival.at_s
            case SpeakerRevision() as revision if revision.segment_id in finals:
                final = revision.applied_to(finals[revision.segment_id])
                lags.revised += final.segment_id in labelled
            case _:
                continue
        finals[final.segment_id] = final
        if final.speaker:
            speakers.add(final.speaker)
        known = final.speaker is not None and all(word.speaker is not None for word in final.words)
        if known and final.segment_id not in labelled:
            labelled.add(final.segment_id)
            lags.label_ms.append((arrival.at_s - came_s[final.segment_id]) * 1000)
    lags.unlabelled = len(finals.keys() - labelled)
    lags.speakers = [len(speakers)]
    return lags


def session_audio(recordings: Sequence[Clip], index: int, seconds: float) -> Pcm16:
    """A dialogue over and over, begun at another place in each session."""
    samples = recordings[index % len(recordings)].samples
    wanted = round(seconds * SAMPLE_RATE_HZ)
    tiled = np.tile(samples, wanted // len(samples) + 2)
    begin = (index * 7 * SAMPLE_RATE_HZ) % len(samples)
    return tiled[begin : begin + wanted]


async def run_live(url: str, num_sessions: int, seconds: float, diarize: bool) -> Lags:
    recordings = load_recordings(names=DIALOGUES)
    config = SessionConfig(lang_code="en", diarization=diarize or None)

    async def one(index: int) -> Lags:
        await asyncio.sleep(RAMP_S * index / num_sessions)
        log = await record_session(url, session_audio(recordings, index, seconds), config, chunk_ms=CHUNK_MS)
        if log.failure is not None:
            raise SottoClientError(log.failure)
        return lags_of(log)

    return sum(await asyncio.gather(*(one(index) for index in range(num_sessions))), Lags())


async def run_upload(url: str, seconds: float) -> dict[str, float]:
    """Seconds of wall time: `text` alone, `both`, and the diarizer in this process."""
    audio = np.concatenate([recording.samples for recording in load_recordings(names=DIALOGUES)])
    audio = np.tile(audio, int(seconds * SAMPLE_RATE_HZ) // len(audio) + 1)[: round(seconds * SAMPLE_RATE_HZ)]
    await _transcribed(url, audio[: 20 * SAMPLE_RATE_HZ], diarize=True)  # loads the models
    took: dict[str, float] = {}
    for name, diarize in (("text", None), ("both", True)):
        started = time.perf_counter()
        answer = await _transcribed(url, audio, diarize)
        took[name] = time.perf_counter() - started
    took["speakers"] = await asyncio.to_thread(_diarize_here, audio)
    took["num_speakers"] = len(answer.speakers)
    return took


async def _transcribed(url: str, audio: Pcm16, diarize: bool | None) -> Transcription:
    options = UploadOptions(language="en", diarize=diarize)
    clip = Clip("dialogues", audio, "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dialogues.wav"
        write_recording(path, [clip], clip.duration_s)
        return await transcribe_file(path, url=url, options=options)


def _diarize_here(audio: Pcm16) -> float:
    from serve_app.assembly.speakers import load_diarizer
    from serve_app.settings import Settings
    from serve_app.speakers.turns import SpeakerCounts

    diarizer = load_diarizer(Settings())
    diarizer.diarize(audio[: 10 * SAMPLE_RATE_HZ], SpeakerCounts(), lambda _: None, lambda: None)
    started = time.perf_counter()
    diarizer.diarize(audio, SpeakerCounts(), lambda _: None, lambda: None)
    return time.perf_counter() - started


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("diarization_lag", __doc__)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="tiny.en")
    parser.add_argument("--upload-seconds", type=float, help="measure an upload of this length instead")
    return parser.parse_args(arguments)


@command(SottoClientError, SottoError, LaunchError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    settings: dict[str, Any] = {"model": options.model, "language": "en", "diarization_enabled": False}
    if options.upload_seconds:
        settings |= {"num_workers": 1, "threads_per_worker": 1, "diarization_threads": 1}
    with service_under_test(options.url, settings=settings) as service:
        if options.upload_seconds:
            result = _upload_result(asyncio.run(run_upload(service.url, options.upload_seconds)))
        else:
            result = _live_result(service.url, options)
    print_table("Speakers on the running service", [(name, str(value)) for name, value in result.items()])
    write_json(options.json, result)
    return 0


def _live_result(url: str, options: argparse.Namespace) -> dict[str, Any]:
    asyncio.run(run_live(url, 1, 15.0, diarize=True))  # loads the models
    plain = asyncio.run(run_live(url, options.sessions, options.seconds, diarize=False))
    lags = asyncio.run(run_live(url, options.sessions, options.seconds, diarize=True))
    return {
        "sessions": options.sessions,
        "finals": len(lags.final_ms),
        "label_lag_ms": Percentiles.of(lags.label_ms).to_json(),
        "labelled_with_the_final": sum(lag == 0 for lag in lags.label_ms),
        "never_labelled": lags.unlabelled,
        "revised_later": lags.revised,
        "speakers_by_session": lags.speakers,
        "final_latency_ms": Percentiles.of(lags.final_ms).to_json(),
        "final_latency_ms_without_speakers": Percentiles.of(plain.final_ms).to_json(),
    }


def _upload_result(took: dict[str, float]) -> dict[str, Any]:
    longer = max(took["text"], took["speakers"])
    return {name: round(value, 2) for name, value in took.items()} | {
        "ratio_to_the_longer": round(took["both"] / longer, 3)
    }


if __name__ == "__main__":
    sys.exit(main())
