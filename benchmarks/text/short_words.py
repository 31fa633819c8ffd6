"""Clips of one word: how many are right, how often a prompt's words come that were not said, what it costs.

    python -m benchmarks.text.short_words --models tiny.en base --clips FOLDER... --json out/short_words.json

The transcriber as it runs, guards and Silero included, decodes finals one by one: in the full window, and in
its own without a prompt, with two lists of hotwords, with previous text, and with a list that has the word
itself. Sounds without words follow: breaths, and 0.15 s of speech. One thread; CPU time of the encoder.

Clips are cut out of recordings whose words are known. A word's place comes from an alignment in the full
window, and only words that are heard as they are written are taken. Around each stands what an endpointer
keeps, 0.2 s on both sides: the recording itself where nothing else is said there, elsewhere the quietest
stretch of the same recording.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clips import Clip, select_clips
from benchmarks.report import command, command_line, print_columns, write_json
from benchmarks.scoring import normalise
from serve_app.asr.config import RecogniserConfig
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.features import FloatArray
from serve_app.asr.folder import open_model_folder
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.asr.windows import MAX_AUDIO_S, WindowPolicy
from serve_app.assembly.recognisers import FINAL_PAD_S
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.core.errors import SottoError
from serve_app.core.jobs import DecodeJob, Role, Transcript, Word
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.models import resolve_model

MARGIN_S = 0.2
PIECE_S = (4.0, 12.0)
PAUSE_S = 0.3
WORD_S = (0.2, 1.2)
MIN_LETTERS = 3
_FADE_S = 0.01
_STEP_S = 0.02

Align = Callable[[Pcm16], Sequence[Word]]
"""The words of a recording with their times."""


@dataclass(frozen=True, slots=True)
class Place:
    """A word in a recording. `free_s`: seconds before and behind it in which no other word is."""

    text: str
    start_s: float
    end_s: float
    free_s: tuple[float, float]


def word_clips(
    recordings: Sequence[Clip], align: Align, num_clips: int, margin_s: float = MARGIN_S
) -> list[Clip]:
    """Those words that stand most alone; no word twice."""
    found = [
        (place, clip)
        for clip in recordings
        for place in places_of(align(clip.samples), clip.text, clip.language)
    ]
    found.sort(key=lambda one: -max(one[0].free_s))
    chosen: dict[str, Clip] = {}
    for place, clip in found:
        if len(chosen) < num_clips and place.text not in chosen:
            name = f"{clip.name}@{place.start_s:.2f}"
            chosen[place.text] = Clip(
                name, cut_word(clip.samples, place, margin_s), place.text, clip.language
            )
    return sorted(chosen.values(), key=lambda clip: clip.name)


def places_of(words: Sequence[Word], text: str, language: str = "en") -> list[Place]:
    """The heard words that stand in the text, of a length and spelling that can be told alone."""
    heard = [normalise(word.word, language) for word in words]
    written = [normalise(word, language) for word in text.split()]
    matches = SequenceMatcher(None, heard, written, autojunk=False).get_matching_blocks()
    right = {match.a + offset for match in matches for offset in range(match.size)}
    gaps = [MARGIN_S, *(max(0.0, b.start_s - a.end_s) for a, b in pairwise(words)), MARGIN_S]
    return [
        Place(heard[i], word.start_s, word.end_s, (gaps[i], gaps[i + 1]))
        for i, word in enumerate(words)
        if i in right
        and len(heard[i]) >= MIN_LETTERS
        and heard[i].isalpha()
        and WORD_S[0] <= word.end_s - word.start_s <= WORD_S[1]
    ]


def cut_word(samples: Pcm16, place: Place, margin_s: float = MARGIN_S) -> Pcm16:
    """The word and `margin_s` on both sides of it."""
    before, behind = (min(margin_s, free / 2) for free in place.free_s)
    first = max(0, round((place.start_s - before) * SAMPLE_RATE_HZ))
    last = round((place.end_s + behind) * SAMPLE_RATE_HZ)
    word = samples[first:last].astype(np.float64)
    fade = np.linspace(0.0, 1.0, round(_FADE_S * SAMPLE_RATE_HZ))
    word[: len(fade)] *= fade
    word[-len(fade) :] *= fade[::-1]
    room = quietest(samples, margin_s)
    missing = [round((margin_s - kept) * SAMPLE_RATE_HZ) for kept in (before, behind)]
    parts = [room[: missing[0]], np.round(word).astype(np.int16), room[: missing[1]]]
    return np.concatenate(parts).astype(np.int16)


def quietest(samples: Pcm16, seconds: float) -> Pcm16:
    """The stretch of `seconds` with the least energy."""
    length, step = round(seconds * SAMPLE_RATE_HZ), round(_STEP_S * SAMPLE_RATE_HZ)
    energy = np.concatenate([np.zeros(1), np.cumsum(np.square(samples, dtype=np.float64))])
    sums = energy[length:] - energy[:-length]
    start = int(np.argmin(sums[::step])) * step
    return samples[start : start + length]


def pieces_of(clip: Clip) -> list[Pcm16]:
    """What is decoded at a time: the clip, or its turns or stretches between pauses where it is over 30 s."""
    if clip.duration_s <= MAX_AUDIO_S:
        return [clip.samples]
    if not clip.turns:
        return cut_at_pauses(clip.samples)
    bounds = [(turn.start_s - MARGIN_S, turn.end_s + MARGIN_S) for turn in clip.turns]
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


ALIGNER = "base"
CUT_SHORT_S = 0.15


@dataclass(frozen=True, slots=True)
class Prompted:
    """What the model is told to expect; `{word}` stands for the clip's own word."""

    name: str
    hotwords: str = ""
    prompt: str = ""

    def job(self, clip: Clip) -> DecodeJob:
        hotwords = self.hotwords.format(word=clip.text.capitalize())
        return DecodeJob(0, Role.FINAL, clip.samples, clip.language, hotwords=hotwords, prompt=self.prompt)

    def expected(self) -> set[str]:
        """The words that it could bring in."""
        return set(words_of(f"{self.hotwords.replace('{word}', '')} {self.prompt}"))


PROMPTS = (
    Prompted("no prompt"),
    Prompted("three names", hotwords="Sotto, Xylophone, Kubernetes"),
    Prompted("commands", hotwords="lights on, lights off, stop music"),
    Prompted("previous text", prompt="Then the nurse took the patient upstairs to the second ward."),
    Prompted("the word itself", hotwords="{word}, Xylophone, Kubernetes"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One window and prompt. `right` of the words, in all and by halves of the clips; `echoes`: texts with a
    word of the prompt that was not said and does not come without it; `on_sounds`: the same on sounds."""

    window: str
    prompt: str
    right: int
    right_by_halves: tuple[int, int]
    echoes: int
    on_sounds: int
    num_clips: int
    num_sounds: int
    encode_ms: float
    all_ms: float


class Decoder:
    """One model's transcriber with a window policy for finals, and the encoder's CPU time."""

    def __init__(self, model: str, policy: WindowPolicy) -> None:
        folder = open_model_folder(resolve_model(model, offline=True).path)
        engine = CTranslate2Engine(folder.path, device="cpu", compute_type="int8", num_workers=1, threads=1)
        guards = GuardOptions(ask_voice=partial(voice_of, detector=load_detector("silero")))
        options = TranscriberOptions(windows=dict.fromkeys(Role, policy), guards=guards)
        self._transcriber = WhisperTranscriber(model, engine, folder, options)
        self.encode_s = 0.0
        encode = engine.encode

        def timed(features: FloatArray) -> FloatArray:
            started = time.process_time()
            states = encode(features)
            self.encode_s += time.process_time() - started
            return states

        engine.encode = timed  # type: ignore[method-assign]

    def text(self, job: DecodeJob) -> str:
        return self._decode(job).text

    def words(self, audio: Pcm16) -> Sequence[Word]:
        return self._decode(DecodeJob(0, Role.FINAL, audio, "en", word_timestamps=True)).words

    def _decode(self, job: DecodeJob) -> Transcript:
        result = self._transcriber.transcribe([job])[0]
        if not isinstance(result, Transcript):
            raise ValueError(result.message)
        return result


def own_window() -> WindowPolicy:
    """A final's, as the service cuts it."""
    return RecogniserConfig({}, pads_s={Role.FINAL: FINAL_PAD_S}).windows(on_card=False)[Role.FINAL]


WINDOWS: Mapping[str, WindowPolicy] = {"own": own_window(), "full": WindowPolicy(full_window=True)}


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def breaths(seed: int = 0) -> list[Clip]:
    """Soft noise that swells and dies away, 0.25 to 1.5 s."""
    generator = np.random.default_rng(seed)
    found = []
    for number, seconds in enumerate((0.25, 0.4, 0.6, 0.8, 1.1, 1.5)):
        length = round(seconds * SAMPLE_RATE_HZ)
        noise = np.convolve(generator.normal(size=length), np.hanning(9), "same")
        swell = noise / np.abs(noise).max() * np.hanning(length) * 1500 * (1 + number)
        found.append(Clip(f"breath {seconds} s", swell.astype(np.int16), ""))
    return found


def cut_short(clips: Sequence[Clip]) -> list[Clip]:
    """0.15 s of speech, in which no word fits."""
    length = round(CUT_SHORT_S * SAMPLE_RATE_HZ)
    middles = [(clip, max(0, (len(clip.samples) - length) // 2)) for clip in clips]
    return [Clip(f"{clip.name}, cut", clip.samples[at : at + length], "") for clip, at in middles]


def measure(
    name: str,
    decoder: Decoder,
    clips: Sequence[Clip],
    sounds: Sequence[Clip],
    prompts: Sequence[Prompted] = PROMPTS,
) -> list[Row]:
    """Every prompt in one window; the first is none, and the others' texts are held against its own."""
    bare: dict[str, set[str]] = {}
    rows = []
    for prompt in prompts:
        started, decoder.encode_s = time.process_time(), 0.0
        texts = [decoder.text(prompt.job(clip)) for clip in clips]
        all_s, encode_s = time.process_time() - started, decoder.encode_s
        heard = [decoder.text(prompt.job(sound)) for sound in sounds]
        said = [*(set(words_of(clip.text)) for clip in clips), *(set[str]() for _ in sounds)]
        echoes = []
        for clip, text, own in zip([*clips, *sounds], [*texts, *heard], said, strict=True):
            words = set(words_of(text))
            echoes.append(bool((words - own - bare.setdefault(clip.name, words)) & prompt.expected()))
        right = [normalise(text, clip.language) == clip.text for clip, text in zip(clips, texts, strict=True)]
        rows.append(
            Row(
                window=name,
                prompt=prompt.name,
                right=sum(right),
                right_by_halves=(sum(right[::2]), sum(right[1::2])),
                echoes=sum(echoes[: len(clips)]),
                on_sounds=sum(echoes[len(clips) :]),
                num_clips=len(clips),
                num_sounds=len(sounds),
                encode_ms=round(1000 * encode_s / len(clips), 1),
                all_ms=round(1000 * all_s / len(clips), 1),
            )
        )
    return rows


def cut_words(folders: Sequence[Path | None], num_clips: int, margin_s: float) -> list[Clip]:
    """One-word clips of the English recordings of all folders."""
    recordings = [clip for folder in folders for clip in select_clips(folder, languages=["en"])]
    pieces = [
        Clip(f"{clip.name}/{number}", piece, clip.text)
        for clip in recordings
        for number, piece in enumerate(pieces_of(clip))
    ]
    return word_clips(pieces, Decoder(ALIGNER, WINDOWS["full"]).words, num_clips, margin_s)


def _prompts(window: str) -> Sequence[Prompted]:
    """The full window is there for comparison: without a prompt."""
    return PROMPTS[:1] if window == "full" else PROMPTS


def show(model: str, rows: Sequence[Row]) -> None:
    columns = ("window", "prompt", "right", "halves", "not said", "on sounds", "encoder, ms", "all, ms")
    cells = [
        (
            row.window,
            row.prompt,
            f"{row.right}/{row.num_clips}",
            "{} {}".format(*row.right_by_halves),
            str(row.echoes),
            f"{row.on_sounds}/{row.num_sounds}",
            f"{row.encode_ms:.0f}",
            f"{row.all_ms:.0f}",
        )
        for row in rows
    ]
    print_columns(model, columns, cells)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("short_words", __doc__)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="folders instead of audio/spoken")
    parser.add_argument("--words", type=int, default=40, help="number of clips")
    parser.add_argument("--margin", type=float, default=MARGIN_S, help="seconds kept around a word")
    parser.add_argument("--windows", nargs="+", choices=sorted(WINDOWS), default=list(WINDOWS))
    return parser.parse_args(arguments)


@command(SottoError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    results: list[dict[str, Any]] = []
    clips = cut_words(options.clips or [None], options.words, options.margin)
    sounds = [*breaths(), *cut_short(clips[:6])]
    for model in options.models:
        rows = [
            row
            for name in options.windows
            for row in measure(name, Decoder(model, WINDOWS[name]), clips, sounds, _prompts(name))
        ]
        show(model, rows)
        results.append({"model": model, "rows": [asdict(row) for row in rows]})
    write_json(options.json, {"results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
