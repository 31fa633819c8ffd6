"""What finals lose where the encoder sees only the speech: word errors against faster-whisper's full window.

    python -m benchmarks.text.short_context --models tiny.en base --clips FOLDER --json out/short_context.json

Every recording is decoded by faster-whisper (all 30 s, greedy, no time tokens, no fallback, its own features)
and in the windows of `SETTINGS`: the speech and a pad are encoded, states of silence or of room tone are
spliced behind. One thread each; CPU seconds, not wall time. `--condition` makes worse copies of the same
recordings. Recordings over 30 s are cut into their turns, or at pauses where no turns are known; what is
scored is the whole text.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.clips import Clip, select_clips
from benchmarks.report import command, command_line, percent, print_columns, write_json
from benchmarks.scoring import WordErrors, word_errors
from benchmarks.text.unguarded import UnguardedWhisper
from serve_app.asr.features import FloatArray
from serve_app.asr.windows import MAX_AUDIO_S, WindowPolicy
from serve_app.core.errors import SottoError
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.models import resolve_model

FULL = WindowPolicy(full_window=True)


@dataclass(frozen=True, slots=True)
class Setting:
    """A window policy and what is spliced behind the speech.

    `tone`: standard deviation of the white noise whose states are spliced, of full scale; 0 is digital
    silence. `redo_below`: a text whose mean log-probability is less is decoded again in the full window.
    """

    name: str
    policy: WindowPolicy
    tone: float = 0.0
    redo_below: float = -math.inf


def _window(pad_s: float, tail_s: float = MAX_AUDIO_S) -> WindowPolicy:
    return WindowPolicy(pad_s=pad_s, tail_s=tail_s)


SETTINGS = (
    Setting("full window, ours", FULL),
    Setting("silence, pad 0.5, 10 s", _window(0.5, 10.0)),
    Setting("silence, pad 0.5", _window(0.5)),
    Setting("silence, pad 1", _window(1.0)),
    Setting("tone 0.001, pad 1", _window(1.0), tone=0.001),
    Setting("tone 0.005, pad 0.5", _window(0.5), tone=0.005),
    Setting("tone 0.005, pad 1", _window(1.0), tone=0.005),
    Setting("tone 0.005, pad 1.5", _window(1.5), tone=0.005),
    Setting("tone 0.005, pad 2", _window(2.0), tone=0.005),
    Setting("tone 0.005, pad 1, 10 s", _window(1.0, 10.0), tone=0.005),
    Setting("tone 0.01, pad 1", _window(1.0), tone=0.01),
    Setting("tone 0.005, pad 1, redo", _window(1.0), tone=0.005, redo_below=-0.5),
    Setting("tone 0.005, pad 1.5, redo", _window(1.5), tone=0.005, redo_below=-0.5),
    Setting("tone 0.005, pad 2, redo", _window(2.0), tone=0.005, redo_below=-0.5),
)
"""States are spliced up to 30 s in all, or as many seconds as the name says; `redo` means below a mean
log-probability of -0.5."""


class Decoded(NamedTuple):
    """`ran_on`: the token limit stopped it. `redone`: for that or for its doubt, in the full window."""

    text: str
    encode_s: float
    decode_s: float
    ran_on: bool = False
    redone: bool = False


Decode = Callable[[Pcm16], Decoded]


class ShortContext:
    """One model, one thread, in the window and with the tail of a setting."""

    def __init__(self, model: str, language: str) -> None:
        self._whisper = UnguardedWhisper(model)
        self._language = language

    def decode(self, audio: Pcm16, setting: Setting) -> Decoded:
        """At most 30 s of audio."""
        found = self._whisper.decode(audio, self._language, setting.policy, tone=setting.tone)
        encode_s, decode_s, ran_on = found.encode_s, found.decode_s, not found.ended
        doubtful = ran_on or found.avg_logprob < setting.redo_below
        if not doubtful or setting.policy.full_window:
            return Decoded(found.text, encode_s, decode_s, ran_on)
        again = self._whisper.decode(audio, self._language, FULL)
        return Decoded(again.text, encode_s + again.encode_s, decode_s + again.decode_s, ran_on, redone=True)


def full_window_peer(model: str, language: str) -> Decode:
    """faster-whisper as its users run it, without time tokens and fallback."""
    from faster_whisper import WhisperModel

    path = resolve_model(model, offline=True).path
    whisper = WhisperModel(str(path), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
    encode, spent_s = whisper.encode, [0.0]

    def timed(features: FloatArray) -> Any:
        started = time.process_time()
        states = encode(features)
        spent_s[0] += time.process_time() - started
        return states

    whisper.encode = timed

    def decode(audio: Pcm16) -> Decoded:
        started, before_s = time.process_time(), spent_s[0]
        segments, _ = whisper.transcribe(
            audio.astype(np.float32) / 32768,
            language=language,
            beam_size=1,
            temperature=0,
            without_timestamps=True,
            condition_on_previous_text=False,
            vad_filter=False,
        )
        text = " ".join(segment.text.strip() for segment in segments)
        encode_s = spent_s[0] - before_s
        return Decoded(text, encode_s, time.process_time() - started - encode_s)

    return decode


TURN_MARGIN_S = 0.2
PIECE_S = (4.0, 12.0)
PAUSE_S = 0.3
NOISE_SNR_DB = 10.0
QUIET_DB = -20.0
PEER = "faster-whisper"


def pieces_of(clip: Clip) -> list[Pcm16]:
    """What is decoded at a time: the clip, or its turns or stretches between pauses where it is over 30 s."""
    if clip.duration_s <= MAX_AUDIO_S:
        return [clip.samples]
    if not clip.turns:
        return cut_at_pauses(clip.samples)
    bounds = [(turn.start_s - TURN_MARGIN_S, turn.end_s + TURN_MARGIN_S) for turn in clip.turns]
    return [
        clip.samples[max(0, round(start * SAMPLE_RATE_HZ)) : round(end * SAMPLE_RATE_HZ)]
        for start, end in bounds
    ]


def cut_at_pauses(samples: Pcm16) -> list[Pcm16]:
    """Pieces of 4 to 12 s, each cut in the middle of its quietest 0.3 s; together they are the audio."""
    shortest, longest, pause = (round(s * SAMPLE_RATE_HZ) for s in (*PIECE_S, PAUSE_S))
    pieces = []
    while len(samples) > longest:
        energy = np.cumsum(np.square(samples[shortest:longest], dtype=np.float64))
        cut = shortest + int(np.argmin(energy[pause:] - energy[:-pause])) + pause // 2
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


def noisy(samples: Pcm16, seed: int, snr_db: float = NOISE_SNR_DB) -> Pcm16:
    """With pink noise behind it, `snr_db` below the whole recording."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=len(samples)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(samples))
    speech = samples.astype(np.float64)
    noise *= np.sqrt(np.mean(speech**2) / np.mean(noise**2) / 10 ** (snr_db / 10))
    return np.clip(speech + noise, -32768, 32767).astype(np.int16)


def quiet(samples: Pcm16, gain_db: float = QUIET_DB) -> Pcm16:
    return np.round(samples * 10 ** (gain_db / 20)).astype(np.int16)


CONDITIONS: Mapping[str, Callable[[Pcm16, int], Pcm16]] = {
    "clean": lambda samples, _: samples,
    "noisy": noisy,
    "quiet": lambda samples, _: quiet(samples),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting over all clips; `errors` by clip. `redone`: a share of the pieces."""

    name: str
    total: WordErrors
    errors: tuple[int, ...]
    encode_s: float
    decode_s: float
    ran_on: int
    redone: float


def measure(
    name: str, clips: Sequence[Clip], pieces: Sequence[Sequence[Pcm16]], language: str, decode: Decode
) -> Row:
    """Decode every clip's pieces; its text is theirs, joined."""
    decoded = [[decode(piece) for piece in parts] for parts in pieces]
    texts = [" ".join(part.text for part in parts) for parts in decoded]
    each = [word_errors([clip.text], [text], language) for clip, text in zip(clips, texts, strict=True)]
    total = sum(each[1:], each[0])
    parts = [part for whole in decoded for part in whole]
    return Row(
        name=name,
        total=total,
        errors=tuple(one.substitutions + one.deletions + one.insertions for one in each),
        encode_s=sum(part.encode_s for part in parts),
        decode_s=sum(part.decode_s for part in parts),
        ran_on=sum(part.ran_on for part in parts),
        redone=sum(part.redone for part in parts) / len(parts),
    )


def clips_that_differ(clips: Sequence[Clip], row: Row, peer: Row) -> list[dict[str, Any]]:
    """Where a setting has more or fewer errors than the peer, and how many more."""
    return [
        {"clip": clip.name, "more_errors": ours - theirs}
        for clip, ours, theirs in zip(clips, row.errors, peer.errors, strict=True)
        if ours != theirs
    ]


def compare(
    model: str, language: str, condition: str, clips: Sequence[Clip], names: Sequence[str] = ()
) -> dict[str, Any]:
    """Every setting, or those named, over the same audio as the peer."""
    change = CONDITIONS[condition]
    pieces = [
        [change(piece, number) for number, piece in enumerate(pieces_of(clip), start=100 * index)]
        for index, clip in enumerate(clips)
    ]
    peer = measure(PEER, clips, pieces, language, full_window_peer(model, language))
    ours = ShortContext(model, language)
    rows = []
    for setting in SETTINGS:
        if names and setting.name not in names:
            continue
        row = measure(setting.name, clips, pieces, language, partial(ours.decode, setting=setting))
        rows.append({**summary(row, peer), "differing": clips_that_differ(clips, row, peer)})
    return {
        "model": model,
        "language": language,
        "condition": condition,
        "num_clips": len(clips),
        "audio_s": round(sum(len(piece) for parts in pieces for piece in parts) / SAMPLE_RATE_HZ, 1),
        "rows": [summary(peer, peer), *rows],
    }


def summary(row: Row, peer: Row) -> dict[str, Any]:
    """`more_errors` than the peer in all, and by halves of the clips: a gain that is in one half is luck."""
    more = [ours - theirs for ours, theirs in zip(row.errors, peer.errors, strict=True)]
    return {
        "setting": row.name,
        "wer": round(row.total.rate, 4),
        **asdict(row.total),
        "more_errors": sum(more),
        "more_errors_by_halves": [sum(more[::2]), sum(more[1::2])],
        "ran_on": row.ran_on,
        "redone": round(row.redone, 3),
        "encode_s": round(row.encode_s, 2),
        "decode_s": round(row.decode_s, 2),
        "encode_ratio": round(row.encode_s / peer.encode_s, 3) if peer.encode_s else None,
    }


def show(result: Mapping[str, Any]) -> None:
    columns = (
        "setting",
        "S / D / I",
        "WER, %",
        "more",
        "halves",
        "ran on",
        "redone",
        "enc, s",
        "ratio",
        "dec, s",
    )
    rows = [
        (
            row["setting"],
            f"{row['substitutions']} / {row['deletions']} / {row['insertions']}",
            f"{100 * row['wer']:.2f}",
            f"{row['more_errors']:+d}",
            "{:+d} {:+d}".format(*row["more_errors_by_halves"]),
            str(row["ran_on"]),
            percent(row["redone"]),
            f"{row['encode_s']:.1f}",
            "-" if row["encode_ratio"] is None else f"{row['encode_ratio']:.3f}",
            f"{row['decode_s']:.1f}",
        )
        for row in result["rows"]
    ]
    of = f"{result['num_clips']} clips, {result['audio_s']:.0f} s, {result['rows'][0]['num_words']} words"
    title = f"{result['model']}, {result['language']}, {result['condition']}: {of}"
    print_columns(title, columns, rows)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("short_context", __doc__)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--language", default="en")
    parser.add_argument("--condition", choices=sorted(CONDITIONS), default="clean")
    parser.add_argument("--settings", nargs="*", default=[], help="only these, by their names")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="folders instead of audio/spoken")
    options = parser.parse_args(arguments)
    unknown = set(options.settings) - {setting.name for setting in SETTINGS}
    if unknown:
        parser.error(f"no such setting: {', '.join(sorted(unknown))}")
    return options


@command(SottoError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    results = []
    folders = options.clips or [None]
    clips = [clip for folder in folders for clip in select_clips(folder, languages=[options.language])]
    for model in options.models:
        results.append(compare(model, options.language, options.condition, clips, options.settings))
        show(results[-1])
    write_json(options.json, {"results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
