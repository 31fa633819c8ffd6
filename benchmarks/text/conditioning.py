"""What each conditioning step does to the word error rate of good and of spoilt sound, and what it costs.

    python -m benchmarks.text.conditioning --models tiny.en base --json out/conditioning.json

Every clip is spoilt in each way, conditioned by each step alone, cut by voice activity and decoded greedily
(faster-whisper's `transcribe` with its VAD, so that steps which help the VAD count too). CPU time is that of
the step alone, in frames of 20 ms, as a live session sends them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from benchmarks.clips import DIALOGUES, Clip, load_clips
from benchmarks.report import command, command_line, percent, print_columns, write_json
from benchmarks.scoring import word_errors
from benchmarks.service import say
from serve_app.audio.conditioning import Conditioner, ConditioningOptions, normalise_peak, to_pcm16
from serve_app.audio.filters import Signal
from serve_app.core.errors import SottoError
from serve_app.core.samples import FULL_SCALE, SAMPLE_RATE_HZ, Pcm16, as_float

FRAME_SAMPLES = SAMPLE_RATE_HZ // 50

Spoil = Callable[[Pcm16], Pcm16]
Recognise = Callable[[Pcm16], str]


def _quieter(samples: Pcm16) -> Pcm16:
    """30 dB less gain, rounded to 16 bits again."""
    return to_pcm16(samples / FULL_SCALE * 10 ** (-30 / 20))


def _clipped(samples: Pcm16) -> Pcm16:
    """Recorded so hot that the loudest 5 % of the samples of speech are cut off."""
    signal: Signal = samples / FULL_SCALE
    loud = np.abs(signal[np.abs(signal) > 0.01])
    return samples if not len(loud) else to_pcm16(signal / np.quantile(loud, 0.95))


def _hum(samples: Pcm16) -> Pcm16:
    """Mains hum (50 Hz at -20 dBFS, two harmonics) on an offset of a tenth of full scale."""
    t = np.arange(len(samples)) / SAMPLE_RATE_HZ
    hum = sum(share * np.sin(2 * np.pi * 50 * n * t) for n, share in ((1, 1.0), (3, 0.2), (5, 0.1)))
    return to_pcm16(samples / FULL_SCALE * 0.6 + 0.14 * hum + 0.1)


def _rumble(samples: Pcm16) -> Pcm16:
    """Wind and traffic: noise that falls by 24 dB an octave over 40 Hz, at -15 dBFS."""
    noise = np.fft.rfft(np.random.default_rng(0).normal(size=len(samples)))
    frequencies_hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    rumble = np.fft.irfft(noise / (1 + (frequencies_hz / 40) ** 4), len(samples))
    rumble *= 10 ** (-15 / 20) / max(1e-9, float(np.sqrt(np.mean(rumble**2))))
    return to_pcm16(0.6 * samples / FULL_SCALE + rumble)


SOUNDS: Final[Mapping[str, Spoil]] = MappingProxyType(
    {
        "clean": lambda samples: samples,
        "-30 dB": _quieter,
        "clipped": _clipped,
        "hum and offset": _hum,
        "rumble": _rumble,
    }
)

STEPS: Final[Mapping[str, ConditioningOptions]] = MappingProxyType(
    {
        "none": ConditioningOptions(),
        "DC removal": ConditioningOptions(dc_removal=True),
        "high-pass": ConditioningOptions(high_pass=True),
        "gain +20 dB, limiter": ConditioningOptions(gain_db=20.0, limiter=True),
        "automatic gain": ConditioningOptions(auto_gain=True),
        "compressor": ConditioningOptions(compressor=True, compressor_makeup_db=6.0),
        "all": ConditioningOptions(
            dc_removal=True,
            high_pass=True,
            auto_gain=True,
            compressor=True,
            compressor_makeup_db=6.0,
            limiter=True,
        ),
    }
)
PEAK: Final = "peak normalisation"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("conditioning", __doc__)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--language", default="en")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clips", type=Path, help="a folder of recordings with their words")
    options = parser.parse_args(arguments)
    if options.threads < 1:
        parser.error("--threads must be positive")
    return options


def in_frames(options: ConditioningOptions, samples: Pcm16) -> Pcm16:
    """A whole clip through one conditioner, 20 ms at a time."""
    conditioner = Conditioner(options)
    starts = range(0, len(samples), FRAME_SAMPLES)
    return np.concatenate([conditioner.process(samples[start : start + FRAME_SAMPLES]) for start in starts])


def treatments() -> dict[str, Callable[[Pcm16], Pcm16]]:
    """Each step as a function of a whole clip; peak normalisation is for recordings only."""
    made: dict[str, Callable[[Pcm16], Pcm16]] = {}
    for name, options in STEPS.items():
        made[name] = lambda samples, options=options: in_frames(options, samples)  # type: ignore[misc]
    made[PEAK] = normalise_peak
    return made


def cpu_ms_per_s(clips: Sequence[Clip]) -> dict[str, float]:
    """Milliseconds of CPU time per second of audio, by step."""
    seconds = sum(clip.duration_s for clip in clips)
    costs = {}
    for name, treat in treatments().items():
        started = time.process_time()
        for clip in clips:
            treat(clip.samples)
        costs[name] = round(1000 * (time.process_time() - started) / seconds, 3)
    return costs


def error_rates(clips: Sequence[Clip], recognise: Recognise) -> dict[str, dict[str, float]]:
    """Word error rate by sound, then by step; a step that left the samples as they were is not run again."""
    rates: dict[str, dict[str, float]] = {}
    for sound, spoil in SOUNDS.items():
        known: dict[bytes, str] = {}
        spoilt = [spoil(clip.samples) for clip in clips]
        rates[sound] = {}
        for step, treat in treatments().items():
            texts = []
            for samples in spoilt:
                treated = treat(samples)
                key = treated.tobytes()
                if key not in known:
                    known[key] = recognise(treated)
                texts.append(known[key])
            rates[sound][step] = round(word_errors([clip.text for clip in clips], texts).rate, 4)
            say(f"{sound}, {step}: {percent(rates[sound][step])}")
    return rates


def recogniser(model: str, language: str, num_threads: int) -> Recognise:
    """Greedy decoding of what Silero takes for speech. Raises `SottoError` where the model is not there."""
    from faster_whisper import WhisperModel

    from serve_app.models.resolve import resolve_model

    path = resolve_model(model).path
    whisper = WhisperModel(str(path), device="cpu", compute_type="int8", cpu_threads=num_threads)

    def recognise(samples: Pcm16) -> str:
        segments, _ = whisper.transcribe(
            as_float(samples),
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            vad_filter=True,
        )
        return " ".join(segment.text.strip() for segment in segments)

    return recognise


def show(result: Mapping[str, Any]) -> None:
    for model, rates in result["wer"].items():
        rows = [
            (step, *(percent(rates[sound][step]) for sound in rates), f"{cost:.2f}")
            for step, cost in result["cpu_ms_per_s"].items()
        ]
        print_columns(f"Word error rate of {model}", ("step", *rates, "CPU ms/s"), rows)


@command(SottoError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    clips = load_clips(options.clips, names=(*DIALOGUES, "dictation"))
    wer = {}
    for model in options.models:
        say(f"{model}: {sum(clip.duration_s for clip in clips):.0f} s of speech")
        wer[model] = error_rates(clips, recogniser(model, options.language, options.threads))
    result = {
        "audio_s": round(sum(clip.duration_s for clip in clips), 1),
        "num_words": word_errors([clip.text for clip in clips], [""] * len(clips)).num_words,
        "wer": wer,
        "cpu_ms_per_s": cpu_ms_per_s(clips),
    }
    show(result)
    write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
