"""The speech that the benchmarks send: recordings with their words, and who sends which when."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.audio.recordings import decode_recording

SPOKEN_DIR = Path(__file__).resolve().parents[1] / "audio" / "spoken"
DIALOGUES = ("visit", "ward_round", "phone_call")
CLOSING_SILENCE_S = 1.0
AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".webm"})


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: int16 `(num_samples,)` at 16 kHz, and what is said in it."""

    name: str
    samples: Pcm16
    text: str

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """Whole clips one after another, and a second of silence so that the last utterance closes by itself."""

    clips: tuple[Clip, ...]

    @property
    def name(self) -> str:
        return "+".join(clip.name for clip in self.clips)

    @property
    def text(self) -> str:
        return " ".join(clip.text for clip in self.clips)

    def samples(self) -> Pcm16:
        silence = np.zeros(round(CLOSING_SILENCE_S * SAMPLE_RATE_HZ), np.int16)
        return np.concatenate([*(clip.samples for clip in self.clips), silence])


def load_clips(folder: Path | None = None, names: Sequence[str] = DIALOGUES) -> list[Clip]:
    """The committed dialogues, or every recording of `folder` that has its words.

    Words come from the folder's MANIFEST.json (a list with `file` and `text`) or from `NAME.txt` beside the
    recording. Raises `ValueError` where none is found.
    """
    source = folder or SPOKEN_DIR
    texts = _texts(source)
    wanted = [f"{name}.flac" for name in names] if folder is None else sorted(texts)
    clips = [
        Clip(Path(file).stem, decode_recording(source / file).samples, texts[file])
        for file in wanted
        if file in texts and (source / file).is_file()
    ]
    if not clips:
        raise ValueError(f"{source} holds no recording with its words (MANIFEST.json or NAME.txt)")
    return clips


def _texts(folder: Path) -> dict[str, str]:
    manifest = folder / "MANIFEST.json"
    texts: dict[str, str] = {}
    if manifest.is_file():
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        texts = {entry["file"]: entry["text"] for entry in entries if entry.get("text")}
    for path in sorted(folder.iterdir()):
        words = path.with_suffix(".txt")
        if path.suffix.lower() in AUDIO_SUFFIXES and path.name not in texts and words.is_file():
            texts[path.name] = words.read_text(encoding="utf-8").strip()
    return texts


def session_plans(clips: Sequence[Clip], num_sessions: int, seconds: float) -> list[SessionPlan]:
    """One plan per session, each at least `seconds` long: every rotation of the clips, forward and backward,
    in turn, so that neighbours say different things at any moment."""
    orders = []
    for step in (1, -1) if len(clips) > 2 else (1,):
        for start in range(len(clips)):
            orders.append(_order(clips, start, step, seconds))
    return [orders[index % len(orders)] for index in range(num_sessions)]


def _order(clips: Sequence[Clip], start: int, step: int, seconds: float) -> SessionPlan:
    chosen: list[Clip] = []
    while sum(clip.duration_s for clip in chosen) < seconds:
        chosen.append(clips[(start + step * len(chosen)) % len(clips)])
    return SessionPlan(tuple(chosen))


def start_delays_s(num_sessions: int, ramp_s: float) -> list[float]:
    """When each session starts: spread evenly over the ramp, off any grid that the server might tick on."""
    golden = 0.6180339887498949
    return sorted(ramp_s * ((index * golden) % 1.0) for index in range(num_sessions))
