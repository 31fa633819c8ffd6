"""The speech that the benchmarks send: recordings with their words, and who sends which when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.audio.recordings import decode_recording
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16

SPOKEN_DIR = Path(__file__).resolve().parents[1] / "audio" / "spoken"
DIALOGUES = ("visit", "ward_round", "phone_call")
CLOSING_SILENCE_S = 1.0
DEFAULT_LANGUAGE = "en"
AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a", ".webm"})


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said, in seconds of the recording; "" where the words or the speaker are unknown."""

    start_s: float
    end_s: float
    text: str = ""
    speaker: str = ""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: int16 `(num_samples,)` at 16 kHz, and what is said in it; turns where they are known."""

    name: str
    samples: Pcm16
    text: str
    language: str = DEFAULT_LANGUAGE
    turns: tuple[Turn, ...] = ()

    @property
    def duration_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def num_speakers(self) -> int:
        return len({turn.speaker for turn in self.turns})


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

    Words come from the folder's MANIFEST.json (a list of objects with `file` and `text`, or such a list under
    "audio") or from `NAME.txt` beside the recording. Raises `ValueError` where none is found.
    """
    source = folder or SPOKEN_DIR
    entries = _entries(source, DEFAULT_LANGUAGE)
    wanted = [f"{name}.flac" for name in names] if folder is None else sorted(entries)
    return _not_empty([_decode(source, entries[file]) for file in wanted if file in entries], source)


def select_clips(
    folder: Path | None = None,
    *,
    languages: Sequence[str] = (),
    max_per_language: int | None = None,
    max_seconds: float | None = None,
) -> list[Clip]:
    """Every recording of `folder` (the committed ones without) that has its words, by file name.

    `languages` keeps only those; a recording of unstated language counts as the first of them.
    `max_seconds` cuts longer ones behind their last turn that ends in time and leaves out those without such
    a turn, since which of their words came by then is not known. Raises `ValueError` where nothing is left.
    """
    source = folder or SPOKEN_DIR
    entries = _entries(source, languages[0] if languages else DEFAULT_LANGUAGE)
    taken: Counter[str] = Counter()
    clips = []
    for _, entry in sorted(entries.items()):
        full = max_per_language is not None and taken[entry.language] >= max_per_language
        if full or (languages and entry.language not in languages):
            continue
        clip: Clip | None = _decode(source, entry)
        if clip is not None and max_seconds is not None:
            clip = cut_behind_turn(clip, max_seconds)
        if clip is not None:
            taken[clip.language] += 1
            clips.append(clip)
    return _not_empty(clips, source)


def cut_behind_turn(clip: Clip, max_seconds: float) -> Clip | None:
    """The clip as it is where it is short enough, its first turns, or None where not even one fits."""
    if clip.duration_s <= max_seconds:
        return clip
    turns = clip.turns[: sum(turn.end_s <= max_seconds for turn in clip.turns)]
    if not turns:
        return None
    end_s = turns[-1].end_s
    if len(turns) < len(clip.turns):
        end_s = max(end_s, (end_s + clip.turns[len(turns)].start_s) / 2)
    samples = clip.samples[: round(min(end_s, max_seconds) * SAMPLE_RATE_HZ)]
    return replace(clip, samples=samples, text=" ".join(turn.text for turn in turns), turns=turns)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One recording as the folder's list describes it."""

    file: str
    text: str
    language: str
    turns: tuple[Turn, ...] = ()


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """What the folder's MANIFEST.json lists (or has under "audio"); nothing where there is none."""
    manifest = folder / "MANIFEST.json"
    if not manifest.is_file():
        return []
    listed = json.loads(manifest.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = listed["audio"] if isinstance(listed, dict) else listed
    return found


def _entries(folder: Path, default_language: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for fields in read_manifest(folder):
        if fields.get("text") and (folder / fields["file"]).is_file():
            entries[fields["file"]] = _listed(fields, default_language)
    for path in sorted(folder.iterdir()):
        words = path.with_suffix(".txt")
        if path.suffix.lower() in AUDIO_SUFFIXES and path.name not in entries and words.is_file():
            text = words.read_text(encoding="utf-8").strip()
            entries[path.name] = _Entry(path.name, text, default_language)
    return entries


def _listed(fields: dict[str, Any], default_language: str) -> _Entry:
    turns = sorted(written_turns(fields), key=lambda turn: turn.end_s)
    return _Entry(fields["file"], fields["text"], fields.get("language") or default_language, tuple(turns))


def written_turns(fields: dict[str, Any]) -> tuple[Turn, ...]:
    """Those of one recording of a manifest that have words."""
    return tuple(
        Turn(float(turn["start"]), float(turn["end"]), turn["text"], turn.get("speaker") or "")
        for turn in fields.get("turns") or ()
        if turn.get("text")
    )


def _decode(folder: Path, entry: _Entry) -> Clip:
    samples = decode_recording(folder / entry.file).samples
    return Clip(Path(entry.file).stem, samples, entry.text, entry.language, entry.turns)


def _not_empty(clips: list[Clip], source: Path) -> list[Clip]:
    if not clips:
        raise ValueError(f"{source} holds no recording with its words (MANIFEST.json or NAME.txt)")
    return clips


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
