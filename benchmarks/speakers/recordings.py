"""Recordings that say who speaks when: folders with RTTM, and dialogues put together out of single voices.

A dialogue's reference is exact: every turn is cut out of a clip of one voice, trimmed to where it is heard,
and its place in the dialogue is known. Settings are tuned on such dialogues; recordings with RTTM are for
figures.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.clips import AUDIO_SUFFIXES, SPOKEN_DIR, Clip, Turn, read_manifest, written_turns
from serve_app.audio.recordings import decode_recording
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, as_float
from serve_app.speakers.ports import runs_of

CLIPS_DIR = SPOKEN_DIR.parents[2] / "shared" / "audio"
VOICES = {
    "kathleen": ("en_arctic_kathleen/*",),
    "kerstin": ("de_kerstin/*",),
    "ljspeech": ("en_misc/LJ*",),
    "austen": ("en_misc/sense_and_sensibility*",),
    "jfk": ("en_misc/jfk*",),
    "librispeech_1995": ("librispeech_misc/librispeech-1995*",),
    "aeneas_de": ("multilingual_long/aeneas_de*",),
    "aeneas_en": ("multilingual_long/aeneas_en*",),
    "aeneas_es": ("multilingual_long/aeneas_es*",),
    "pocketsphinx": ("en_misc/goforward*",),
    "arctic_a0024": ("en_misc/arctic_a0024*",),
    "uberi": ("en_misc/uberi_english*",),
}
"""Which clips of `CLIPS_DIR` are of one voice; not those that its own dialogue is made of."""
SPOKEN_VOICES = {
    "doctor": ("dictation*", "short_0*", "short_4*"),
    "patient": ("short_1*",),
    "nurse": ("short_2*",),
    "pharmacist": ("short_3*",),
    "daughter": ("short_5*",),
}
"""The same of `SPOKEN_DIR`; these voices speak in the committed dialogues too, which are no part of this."""

_FRAME = SAMPLE_RATE_HZ // 50
_SPEECH_DB = -35.0
"""Below a clip's loudest frames: quieter is a pause ..."""
_ABOVE_NOISE = 0.35
"""... and so is what is not this far up from its quietest frames to its loudest, in decibels."""
_REFERENCE_PAUSE_S = 0.5
"""A pause this long within a turn is no speech in the reference either."""
_LEVEL_RMS = 0.05
Voices: TypeAlias = Mapping[str, Sequence[Pcm16]]
_Floats: TypeAlias = npt.NDArray[np.float32]
_Bools: TypeAlias = npt.NDArray[np.bool_]


def load_recordings(*folders: Path, names: Sequence[str] = ()) -> list[Clip]:
    """Every recording of `folders` (the committed ones without) that has an RTTM file beside it, by name.

    What a turn says comes from the folder's MANIFEST.json where that has it. Raises `ValueError` where none
    is found in a folder, or one of `names` in none.
    """
    found: list[Clip] = []
    for folder in folders or (SPOKEN_DIR,):
        here = list(_recordings_of(folder, names))
        if not here and not names:
            raise ValueError(f"{folder} holds no recording with an RTTM file")
        found += here
    missing = set(names) - {recording.name for recording in found}
    if missing:
        raise ValueError(f"no recording with an RTTM file: {', '.join(sorted(missing))}")
    return found


def committed_and_own() -> tuple[Path, ...]:
    """Folders that figures are of: the committed one, and the one in `CLIPS_DIR` where it exists."""
    own = CLIPS_DIR / "diarization"
    return (SPOKEN_DIR, own) if own.is_dir() else (SPOKEN_DIR,)


def _recordings_of(folder: Path, names: Sequence[str]) -> Iterator[Clip]:
    written = {fields["file"]: written_turns(fields) for fields in read_manifest(folder)}
    for path in sorted(folder.iterdir()):
        wanted = not names or path.stem in names
        rttm = path.with_suffix(".rttm")
        if path.suffix.lower() in AUDIO_SUFFIXES and wanted and rttm.is_file():
            turns = _with_text(read_rttm(rttm), written.get(path.name, ()))
            yield Clip(path.stem, decode_recording(path).samples, "", turns=turns)


def read_rttm(path: Path) -> tuple[Turn, ...]:
    """Raises `ValueError` for a SPEAKER line that is none."""
    turns = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start_s, duration_s, speaker = float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError):
            raise ValueError(f"{path}, line {number}: not a SPEAKER line of RTTM") from None
        turns.append(Turn(start_s, start_s + duration_s, speaker=speaker))
    return tuple(sorted(turns, key=lambda turn: turn.start_s))


def _with_text(turns: tuple[Turn, ...], written: Sequence[Turn]) -> tuple[Turn, ...]:
    """The RTTM's turns; the written ones in their place where they are the same stretches."""
    same = len(turns) == len(written) and all(
        ours.speaker == theirs.speaker and abs(ours.start_s - theirs.start_s) < 0.1
        for ours, theirs in zip(turns, written, strict=True)
    )
    return tuple(written) if same else turns


def load_voices(*, least_s: float = 5.0) -> dict[str, list[Pcm16]]:
    """Clips by voice, of the committed single-voice recordings and of `CLIPS_DIR` where it exists; only
    voices with at least `least_s` seconds. None of the committed dialogues is among them."""
    voices: dict[str, list[Pcm16]] = {}
    for folder, table in ((SPOKEN_DIR, SPOKEN_VOICES), (CLIPS_DIR, VOICES)):
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        for voice, patterns in table.items():
            chosen = [path for path in files if _is_any(path.relative_to(folder), patterns)]
            clips = [decode_recording(path).samples for path in chosen]
            if sum(map(len, clips)) >= least_s * SAMPLE_RATE_HZ:
                voices[voice] = clips
    return voices


def _is_any(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(str(path), pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class DialogueOptions:
    """How a dialogue goes. Each turn lasts between two of `turn_s`, each gap between two of `gap_s`; with
    `overlap_probability` a turn starts up to `max_overlap_s` before the one before it has ended. Voices
    differ in level by up to `level_db` either way; `noise_db` is white noise against full scale."""

    duration_s: float = 60.0
    turn_s: tuple[float, float] = (3.0, 8.0)
    gap_s: tuple[float, float] = (0.1, 0.8)
    overlap_probability: float = 0.0
    max_overlap_s: float = 0.6
    level_db: float = 4.0
    noise_db: float = -70.0


LONG_TURNS_S = (3.0, 8.0)
SHORT_TURNS_S = (0.8, 3.0)


def make_dialogue(
    voices: Voices, num_speakers: int, seed: int, options: DialogueOptions | None = None
) -> Clip:
    """A dialogue of `num_speakers` of `voices`, the same for the same arguments.

    Every speaker has a turn before any has a second one; no speaker follows himself (unless alone). Raises
    `ValueError` where there are not as many voices.
    """
    options = options or DialogueOptions()
    if not 1 <= num_speakers <= len(voices):
        raise ValueError(f"{num_speakers} speakers asked for, {len(voices)} voices to choose from")
    random = np.random.default_rng(seed)
    names = [str(name) for name in random.permutation(sorted(voices))[:num_speakers]]
    sources = {name: _VoiceSource(voices[name], random, options) for name in names}
    samples = np.zeros(round(options.duration_s * SAMPLE_RATE_HZ), np.float32)
    turns: list[Turn] = []
    position, last = round(0.5 * SAMPLE_RATE_HZ), ""
    for number in range(len(samples)):
        others = [name for name in names if name != last] or names
        last = names[number] if number < len(names) else str(random.choice(others))
        said, spans = sources[last].next_turn()
        if position + len(said) > len(samples):
            break
        samples[position : position + len(said)] += said
        turns += [_turn(position, start, end, last) for start, end in spans]
        position += len(said) + _gap_samples(random, options, len(said))
    samples = samples[: min(len(samples), position + SAMPLE_RATE_HZ // 2)]
    samples += random.normal(0, 10 ** (options.noise_db / 20), len(samples)).astype(np.float32)
    pcm = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
    turns.sort(key=lambda turn: turn.start_s)
    return Clip(f"dialogue_{num_speakers}_{seed}", pcm, "", turns=tuple(turns))


def _turn(position: int, start: int, end: int, speaker: str) -> Turn:
    start_s, end_s = (position + start) / SAMPLE_RATE_HZ, (position + end) / SAMPLE_RATE_HZ
    return Turn(round(start_s, 3), round(end_s, 3), speaker=speaker)


def _gap_samples(random: np.random.Generator, options: DialogueOptions, turn_samples: int) -> int:
    """Negative where the next turn starts early; never before half of this one is over."""
    if random.random() < options.overlap_probability:
        overlap = round(random.uniform(0.2, options.max_overlap_s) * SAMPLE_RATE_HZ)
        return -min(overlap, turn_samples // 2)
    return round(random.uniform(*options.gap_s) * SAMPLE_RATE_HZ)


class _VoiceSource:
    """One voice's clips, handed out turn by turn, around and around."""

    def __init__(self, clips: Sequence[Pcm16], random: np.random.Generator, options: DialogueOptions) -> None:
        self._random = random
        self._turn_s = options.turn_s
        gain = 10 ** (random.uniform(-options.level_db, options.level_db) / 20)
        order = random.permutation(len(clips))
        self._clips = [_levelled(clips[index]) * np.float32(gain) for index in order]
        self._speech = [speech_frames(clip) for clip in self._clips]
        self._clip, self._frame = 0, 0

    def next_turn(self) -> tuple[_Floats, list[tuple[int, int]]]:
        """The samples of a turn, trimmed to speech, and the stretches of speech within it in samples."""
        speech = self._speech[self._clip]
        ahead = np.flatnonzero(speech[self._frame :])
        least, most = (round(seconds * SAMPLE_RATE_HZ / _FRAME) for seconds in self._turn_s)
        if not len(ahead) or (self._frame > 0 and len(speech) - self._frame - ahead[0] < least):
            self._clip, self._frame = (self._clip + 1) % len(self._clips), 0
            return self.next_turn()
        first = self._frame + int(ahead[0])
        end = self._quietest(first + least, first + most)
        self._frame = end
        last = first + int(np.flatnonzero(speech[first:end])[-1]) + 1
        spans = _spans(speech[first:last], round(_REFERENCE_PAUSE_S * SAMPLE_RATE_HZ / _FRAME))
        cut = self._clips[self._clip][first * _FRAME : last * _FRAME]
        return cut, [(start * _FRAME, min(end * _FRAME, len(cut))) for start, end in spans]

    def _quietest(self, least: int, most: int) -> int:
        """A frame to cut at, near a length drawn between the two."""
        clip = self._clips[self._clip]
        num_frames = len(self._speech[self._clip])
        aim = int(self._random.integers(least, most + 1))
        low, high = max(least, aim - 25), min(most, aim + 25)
        if num_frames <= high:
            return num_frames
        return low + int(np.argmin(_frame_db(clip)[low:high]))


def speech_frames(audio: _Floats) -> _Bools:
    """Bool `(num_frames,)` of 20 ms frames: where a clip of one voice is not silent; pauses shorter than
    0.1 s count as speech."""
    level = _frame_db(audio)
    noise, loudest = np.percentile(level, (5, 95))
    loud = level > max(loudest + _SPEECH_DB, noise + _ABOVE_NOISE * (loudest - noise))
    filled = np.zeros(len(loud), np.bool_)
    for start, end in _spans(loud, 5):
        filled[start:end] = end - start >= 3
    return filled


def _frame_db(audio: _Floats) -> _Floats:
    frames = audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = (frames.astype(np.float64) ** 2).mean(1)
    decibels: _Floats = (10 * np.log10(power + 1e-10)).astype(np.float32)
    return decibels


def _spans(on: _Bools, join_frames: int) -> list[tuple[int, int]]:
    """Runs of True, those less than `join_frames` apart joined."""
    spans: list[tuple[int, int]] = []
    for start, end in runs_of(on):
        if spans and start - spans[-1][1] < join_frames:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _levelled(clip: Pcm16) -> _Floats:
    """In [-1, 1], its speech at one common level."""
    audio = as_float(clip)
    speech = speech_frames(audio)
    frames = audio[: len(speech) * _FRAME].reshape(-1, _FRAME)[speech]
    rms = float(np.sqrt((frames.astype(np.float64) ** 2).mean())) if len(frames) else 1.0
    levelled: _Floats = audio * np.float32(_LEVEL_RMS / max(rms, 1e-4))
    return levelled
