"""Engines side by side on this machine: what finals and interims cost, how right they are, memory, start-up.

    python -m benchmarks.engines --models tiny.en tiny.en+base --clips FOLDER --json out/engines.json

Every clip is decoded as a live session decodes it (`serve_app/service/replay.py`): an interim every
`--step-s` with the newest text as a draft, then the final; by one engine after the other before the next clip
comes; one thread, CPU time of the process. `tiny.en+base` has interims by the first model, finals by the
second; languages that the first does not know are interims of the second. Without `--clips` the committed
recordings are read. CTranslate2 can be kept from instructions with CT2_FORCE_CPU_ISA (AVX2, say), onnxruntime
cannot.

- `final`: CPU milliseconds per second of audio, without a draft, and with the last interim's text as one.
- `interims`: the same, all of an utterance's interims over its audio. `encoder` is the part of both in it.
- `calls`: of the decoder, per final without and with a draft, and per interim.
- `errors`: words of the finals with drafts, normalised as in `benchmarks.text.accuracy`; by language.
- `lag`: median milliseconds from a word's end to when it lay in the stable prefix, or the final, had the
  machine been this one alone: an answer comes after its own CPU time. `flicker` as there.
- `memory` of the models in a process of their own, after decoding, and `start` in seconds: with an empty
  cache, and again.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import psutil

from benchmarks.clips import Clip, select_clips
from benchmarks.live.load import SessionLog
from benchmarks.report import command, command_line, panels, print_columns, write_json
from benchmarks.scoring import Percentiles, WordErrors, word_errors
from benchmarks.service import say
from benchmarks.text.accuracy_runs import COMMITTING_POLICIES, DEFAULT_POLICY
from benchmarks.text.lag import TextFigures, measure_session
from benchmarks.text.short_words import pieces_of
from serve_app.asr.config import HostedModel, load_transcribers, transcriber_of
from serve_app.asr.engines.base import Engine, Hypothesis
from serve_app.asr.engines.choice import find_engine, load_engine
from serve_app.asr.ports import Transcriber
from serve_app.assembly.recognisers import recogniser_config
from serve_app.audio.sample import speech_sample
from serve_app.capacity.processor import this_processor
from serve_app.core.errors import SottoError
from serve_app.core.jobs import DecodeJob, Role, Task
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.service.replay import Replay, ReplayOptions, decode_timed, replay_utterance
from serve_app.settings import Settings, load_settings
from serve_app.streaming.policy import PolicyName, PolicyOptions
from sotto_client.wire import FinalTranscript, PartialTranscript, Timing, Word

ENGINES = ("ctranslate2", "onnx:int8_float32", "onnx:int8")
MODELS = ("tiny.en", "tiny.en+base")
SWITCHES = ("CT2_FORCE_CPU_ISA", "CT2_USE_MKL", "MKL_ENABLE_INSTRUCTIONS")
CHUNK_MS = 100
ROLES = (Role.FINAL, Role.INTERIM)
COLUMNS = (
    "engine",
    "models, policy",
    "final",
    "with draft",
    "interims",
    "encoder",
    "calls",
    "errors",
    "lag",
    "flicker",
)


@dataclass(slots=True)
class Counted:
    """CPU seconds by method of an engine, and the decoder's calls for each answer, in order."""

    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: list[int] = field(default_factory=list)


class TimedEngine:
    """An engine whose methods are counted."""

    def __init__(self, engine: Engine, counted: Counted) -> None:
        self._engine = engine
        self._counted = counted

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._timed(name, found) if callable(found) else found

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            started_s = time.process_time()
            answer = method(*args)
            self._counted.cpu_s[name] += time.process_time() - started_s
            if name == "generate":
                found: list[Hypothesis] = answer
                self._counted.calls += [each.num_calls or each.num_scored for each in found]
            return answer

        return run


@dataclass(frozen=True, slots=True)
class Contender:
    """One engine with one pair of models, and its transcribers."""

    engine: str
    models: str
    transcribers: Mapping[Role, Transcriber]
    counted: Counted

    def roles_for(self, language: str) -> Mapping[Role, Transcriber] | None:
        """None where finals do not know the language."""
        interim, final = self.transcribers[Role.INTERIM], self.transcribers[Role.FINAL]
        if not final.info.can(language, Task.TRANSCRIBE):
            return None
        knows = interim.info.can(language, Task.TRANSCRIBE)
        return {Role.FINAL: final, Role.INTERIM: interim if knows else final}

    def taken(self) -> Counted:
        """What was counted since the last time."""
        taken = replace(self.counted)
        self.counted.cpu_s, self.counted.calls = defaultdict(float), []
        return taken


@dataclass(slots=True)
class Figures:
    """Of one contender under one policy; CPU seconds, calls one for each answer."""

    audio_s: float = 0.0
    bare_s: float = 0.0
    final_s: float = 0.0
    interims_s: float = 0.0
    encoder_s: float = 0.0
    num_interims: int = 0
    bare_calls: list[int] = field(default_factory=list)
    final_calls: list[int] = field(default_factory=list)
    interim_calls: list[int] = field(default_factory=list)
    text: TextFigures = field(default_factory=TextFigures)
    said: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    heard: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    differ: int = 0
    """Finals that read otherwise with a draft than without."""


def load_contender(engine: str, models: str, cache_dir: Path | None = None) -> Contender:
    """Raises `ModelUnavailable`, `SettingsError`."""
    name, _, compute_type = engine.partition(":")
    interim, _, final = models.partition("+")
    settings = _settings(name, compute_type, interim, final or interim, cache_dir)
    config = recogniser_config(settings, ROLES, shares_cores=True)
    loaded: dict[HostedModel, Transcriber] = {}
    counted = Counted()
    for model in config.models.values():
        if model not in loaded:
            timed = TimedEngine(load_engine(config.engine_for(model), config.to_load(model)), counted)
            loaded[model] = transcriber_of(config, model, cast(Engine, timed))
            loaded[model].warm_up()
    found = Contender(engine, models, {role: loaded[model] for role, model in config.models.items()}, counted)
    found.taken()
    return found


def _settings(
    engine: str, compute_type: str, interim: str, final: str, cache_dir: Path | None = None
) -> Settings:
    flags: dict[str, Any] = {
        "engine": engine,
        "device": "cpu",
        "compute_type": compute_type or "auto",
        "interim_model": interim,
        "final_model": final,
        "num_workers": 1,
    }
    settings = load_settings(flags=flags)
    return settings if cache_dir is None else settings.model_copy(update={"cache_dir": cache_dir})


def measure_clip(
    contender: Contender, clip: Clip, policy: str, figures: Figures, step_s: float = 0.5
) -> None:
    """Add what one clip costs and says. Nothing where the models do not know its language."""
    models = contender.roles_for(clip.language)
    if models is None:
        return
    options = ReplayOptions(PolicyOptions(PolicyName(policy)), step_s)
    texts = []
    for piece in pieces_of(clip):
        contender.taken()
        replay = replay_utterance(models, piece, clip.language, options)
        counted = contender.taken()
        figures.encoder_s += counted.cpu_s["encode"]
        # Interims are searched for once; a final perhaps once more.
        figures.interim_calls += counted.calls[: replay.num_interims]
        figures.final_calls += counted.calls[replay.num_interims :][:1]
        bare, bare_s = decode_timed(models[Role.FINAL], replace(replay.final_job, draft=""))
        figures.bare_calls += contender.taken().calls[:1]
        figures.audio_s += len(piece) / SAMPLE_RATE_HZ
        figures.bare_s += bare_s
        figures.final_s += replay.final_cpu_s
        figures.interims_s += replay.interim_cpu_s
        figures.num_interims += replay.num_interims
        figures.differ += bare.text.strip() not in replay.final.text
        log = log_of(replay, len(piece))
        figures.text += measure_session(log, commits=policy in COMMITTING_POLICIES)
        texts.append(replay.final.text.strip())
    figures.said[clip.language].append(clip.text)
    figures.heard[clip.language].append(" ".join(texts))


_TIMING = Timing(
    preprocess_ms=0.0, queue_wait_ms=0.0, inference_ms=0.0, postprocess_ms=0.0, server_total_ms=0.0, model=""
)


def log_of(replay: Replay, num_samples: int) -> SessionLog:
    """The replay as a client would have seen it: audio in real time, each text after the CPU time it took."""
    num_chunks = -(-num_samples * 1000 // (CHUNK_MS * SAMPLE_RATE_HZ))
    sent_s = [CHUNK_MS / 1000 * (index + 1) for index in range(num_chunks)]
    log = SessionLog(CHUNK_MS, sent_at_s=sent_s, sent_samples=num_samples)
    common: dict[str, Any] = {"session_id": "", "segment_id": "", "language": "", "timing": _TIMING}
    for shown in replay.shown:
        end_s = shown.end_sample / SAMPLE_RATE_HZ
        text = PartialTranscript(
            text=shown.text.text,
            stable_chars=shown.text.stable_chars,
            confidence=1.0,
            start_ms=0.0,
            end_ms=1000 * end_s,
            **common,
        )
        log.hear(text, end_s + shown.cpu_s)
    words = tuple(
        Word(word=word.word, start_s=word.start_s, end_s=word.end_s, probability=word.probability)
        for word in replay.final.words
    )
    end_ms = 1000 * num_samples / SAMPLE_RATE_HZ
    final = FinalTranscript(
        text=replay.final.text.strip(),
        confidence=1.0,
        words=words,
        audio_duration_ms=end_ms,
        language_probability=1.0,
        start_ms=0.0,
        end_ms=end_ms,
        endpoint_ms=end_ms,
        **common,
    )
    log.hear(final, end_ms / 1000 + replay.final_cpu_s)
    return log


def row_of(contender: Contender, policy: str, figures: Figures) -> dict[str, Any]:
    """What `--json` holds of one contender and policy."""
    errors = {
        language: word_errors(said, figures.heard[language], language)
        for language, said in figures.said.items()
    }
    total = sum(errors.values(), WordErrors(0, 0, 0, 0))
    per_s = 1000 / figures.audio_s
    lag = Percentiles.of(figures.text.commit_lag_ms)
    return {
        "engine": contender.engine,
        "models": contender.models,
        "policy": policy,
        "final_ms_per_s": round(figures.bare_s * per_s, 2),
        "drafted_final_ms_per_s": round(figures.final_s * per_s, 2),
        "interims_ms_per_s": round(figures.interims_s * per_s, 2),
        "encoder_ms_per_s": round(figures.encoder_s * per_s, 2),
        "calls_per_final": _mean(figures.bare_calls),
        "calls_per_drafted_final": _mean(figures.final_calls),
        "calls_per_interim": _mean(figures.interim_calls),
        "num_errors": {language: _num_errors(each) for language, each in errors.items()},
        "num_words": {language: each.num_words for language, each in errors.items()},
        "word_error_rate": round(total.rate, 4),
        "num_finals": len(figures.final_calls),
        "num_finals_that_differ": figures.differ,
        "commit_lag_ms": {"median": lag.p50, "p95": lag.p95},
        "flicker": figures.text.flicker,
        "retractions": figures.text.num_retractions,
        "audio_s": round(figures.audio_s, 1),
    }


def _mean(values: Sequence[int]) -> float:
    return round(sum(values) / max(1, len(values)), 1)


def _num_errors(errors: WordErrors) -> int:
    return errors.substitutions + errors.deletions + errors.insertions


def cells_of(row: Mapping[str, Any]) -> list[str]:
    """Under `COLUMNS`."""
    calls = ("calls_per_final", "calls_per_drafted_final", "calls_per_interim")
    errors = (f"{count} of {row['num_words'][lang]} {lang}" for lang, count in row["num_errors"].items())
    lag = row["commit_lag_ms"]["median"]
    return [
        row["engine"],
        f"{row['models']}, {row['policy']}",
        f"{row['final_ms_per_s']:.1f}",
        f"{row['drafted_final_ms_per_s']:.1f}",
        f"{row['interims_ms_per_s']:.1f}",
        f"{row['encoder_ms_per_s']:.1f}",
        " / ".join(f"{row[name]:.1f}" for name in calls),
        "\n".join(errors),
        "-" if lag is None else f"{lag:.0f}",
        "-" if row["flicker"] is None else f"{row['flicker']:.2f}",
    ]


def start_cost(engine: str, models: str) -> dict[str, Any]:
    """Of a process that loads the models, with an empty cache and again, and decodes a sentence."""
    name, _, compute_type = engine.partition(":")
    interim, _, final = models.partition("+")
    settings = _settings(name, compute_type, interim, final or interim)
    config = recogniser_config(settings, ROLES, shares_cores=True)
    find_engine(name).load()
    loaded: list[dict[Role, Transcriber]] = []
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as cache_dir:
        config = replace(config, cache_dir=Path(cache_dir))
        before_bytes = memory_bytes = psutil.Process().memory_info().rss
        for _ in range(2):
            started_s = time.perf_counter()
            loaded.append(dict(load_transcribers(config)))
            seconds.append(round(time.perf_counter() - started_s, 2))
            if len(loaded) == 1:
                for role, transcriber in loaded[0].items():
                    transcriber.transcribe([DecodeJob(0, role, speech_sample(), "en", word_timestamps=True)])
                memory_bytes = psutil.Process().memory_info().rss - before_bytes
    return {
        "engine": engine,
        "models": models,
        "start_s": seconds[0],
        "start_again_s": seconds[1],
        "memory_mb": round(memory_bytes / 1e6),
    }


def measure_starts(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Each in a process of its own."""
    found = []
    for engine, models in pairs:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(start_cost, engine, models).result())
    return found


def measure(
    engines: Sequence[str],
    models: Sequence[str],
    policies: Sequence[str],
    clips: Sequence[Clip],
    step_s: float,
) -> list[dict[str, Any]]:
    """A row for each engine, pair of models and policy."""
    rows = []
    for pair in models:
        contenders = [load_contender(engine, pair) for engine in engines]
        runs = [(contender, policy, Figures()) for contender in contenders for policy in policies]
        runs = [run for run in runs if run[1] != PolicyName.ALIGN_ATT or _gives_attention(run[0])]
        for clip in clips:
            say(f"{pair}: {clip.name}")
            for contender, policy, figures in runs:
                measure_clip(contender, clip, policy, figures, step_s)
        rows += [row_of(*run) for run in runs if run[2].audio_s]
    return rows


def _gives_attention(contender: Contender) -> bool:
    return contender.transcribers[Role.FINAL].info.attention


def plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    kinds = ("final_ms_per_s", "drafted_final_ms_per_s", "interims_ms_per_s")
    names = [f"{row['engine']}\n{row['models']}\n{row['policy']}" for row in rows]
    places = range(len(rows))
    with panels(path, "Engines", 2) as (left, right):
        for offset, (key, label) in enumerate(zip(kinds, ("final", "with draft", "interims"), strict=True)):
            left.bar([p + 0.27 * (offset - 1) for p in places], [row[key] for row in rows], 0.27, label=label)
        left.set(ylabel="CPU ms per second of audio")
        left.legend()
        right.bar(places, [100 * row["word_error_rate"] for row in rows])
        right.set(ylabel="word errors, per cent")
        for axes in (left, right):
            axes.set_xticks(places, names, fontsize=7)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("engines", __doc__)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), help="NAME or NAME:PRECISION")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="MODEL or INTERIMS+FINALS")
    parser.add_argument(
        "--policies", nargs="+", default=[DEFAULT_POLICY], choices=[DEFAULT_POLICY, *COMMITTING_POLICIES]
    )
    parser.add_argument("--clips", nargs="+", type=Path, help="folders of recordings with their words")
    parser.add_argument("--languages", help="only these, like en,de")
    parser.add_argument("--limit", type=int, help="most clips of a language and folder")
    parser.add_argument("--step-s", type=float, default=0.5, help="seconds between two interims")
    parser.add_argument("--no-starts", action="store_true", help="without memory and start-up")
    parser.add_argument("--plot", type=Path)
    return parser.parse_args(arguments)


def clips_of(options: argparse.Namespace) -> Iterator[Clip]:
    languages = options.languages.split(",") if options.languages else ()
    for folder in options.clips or (None,):
        yield from select_clips(folder, languages=languages, max_per_language=options.limit)


@command(SottoError, ValueError, OSError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    processor = str(this_processor())
    clips = list(clips_of(options))
    rows = measure(options.engines, options.models, options.policies, clips, options.step_s)
    pairs = [(engine, pair) for pair in options.models for engine in options.engines]
    starts = [] if options.no_starts else measure_starts(pairs)
    switches = {name: os.environ[name] for name in SWITCHES if name in os.environ}
    title = f"CPU ms per second of audio, one thread; {processor}"
    print_columns(title, COLUMNS, [cells_of(row) for row in rows])
    if starts:
        print_columns(
            "Memory and start-up",
            ("engine", "models", "memory, MB", "start, s", "again, s"),
            [[str(value) for value in _in_order(start)] for start in starts],
        )
    if switches:
        print(f"kept from instructions by {switches}")
    result = {
        "processor": processor,
        "switches": switches,
        "step_s": options.step_s,
        "rows": rows,
        "starts": starts,
    }
    write_json(options.json, result)
    if options.plot:
        plot(options.plot, rows)
    return 0


def _in_order(start: Mapping[str, Any]) -> list[Any]:
    return [start[name] for name in ("engine", "models", "memory_mb", "start_s", "start_again_s")]


if __name__ == "__main__":
    sys.exit(main())
