"""What finals lose where the encoder sees only the speech: word errors against faster-whisper's full window.

    python -m benchmarks.short_context --models tiny.en base --clips FOLDER --json out/short_context.json

Every recording is decoded by faster-whisper (all 30 s, greedy, no time tokens, no fallback, its own features)
and in the windows of `SETTINGS`: the speech and a pad are encoded, states of silence or of room tone are
spliced behind. One thread each; CPU seconds, not wall time. `--condition` makes worse copies of the same
recordings. Recordings over 30 s are cut into their turns, or at pauses where no turns are known; what is
scored is the whole text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import Clip, select_clips
from benchmarks.report import percent, print_columns, write_json
from benchmarks.scoring import WordErrors, word_errors
from benchmarks.short_context_decoders import SETTINGS, Decode, ShortContext, full_window_peer
from serve_app.asr.jobs import SAMPLE_RATE_HZ, Pcm16
from serve_app.asr.windows import MAX_AUDIO_S
from serve_app.errors import SottoError

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
    """With pink noise behind it, so much weaker than the whole recording."""
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
    parser = argparse.ArgumentParser(prog="short_context", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--language", default="en")
    parser.add_argument("--condition", choices=sorted(CONDITIONS), default="clean")
    parser.add_argument("--settings", nargs="*", default=[], help="only these, by their names")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="folders instead of audio/spoken")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    unknown = set(options.settings) - {setting.name for setting in SETTINGS}
    if unknown:
        parser.error(f"no such setting: {', '.join(sorted(unknown))}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    results = []
    try:
        folders = options.clips or [None]
        clips = [clip for folder in folders for clip in select_clips(folder, languages=[options.language])]
        for model in options.models:
            results.append(compare(model, options.language, options.condition, clips, options.settings))
            show(results[-1])
    except (SottoError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        write_json(options.json, {"results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
