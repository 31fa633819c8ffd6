"""How many live sessions a server holds in real time, how late its text is, and what it costs.

    python -m benchmarks.live.sessions --sessions 24 --seconds 60 --json out/live.json --plot out/live.png

Every session streams whole dialogues, one after another, over a WebSocket in real time. First each order of
clips runs alone (for its text), then a quarter of the sessions, then all of them.

- `final_latency_ms`: from sending the chunk that completes the endpoint silence (or the cut) to receiving
  the final. `final_after_speech_ms` counts from the chunk with the end of speech, silence included.
- `interim_lag_ms`: from sending the last sample that an interim covers to receiving it.
- `audio_dropped_ms`: samples sent less samples counted in `session_ended`, all sessions together.
- `late_chunks`: chunks that the client could send only more than 100 ms after their time (back-pressure).
- `wer`: word error rate, a fraction, after Whisper's English normaliser; `wer_vs_alone` takes the text that
  the same clips gave alone as the reference.
- `cpu_s_per_audio_s`: seconds of CPU of all processes but this one per second of audio, while all talk.
- `overhead_core_percent_per_session`: the slope between a quarter and all of the sessions of the CPU outside
  the model replicas; with voice activity detection under its own key. On CPUs that is within the ingress and
  counted there, unless `STT_VAD_PLACEMENT=deployment`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.clips import SessionPlan, load_clips, session_plans
from benchmarks.live.load import LATE_CHUNK_MS, LoadResult, SessionResult, run_alone, run_load
from benchmarks.report import command, command_line, percent, plot_latencies_and_cpu, print_table, write_json
from benchmarks.scoring import Percentiles, word_errors
from benchmarks.service import (
    CLIENT,
    VOICE_ACTIVITY,
    ServiceUnderTest,
    cpu_between,
    overhead_s,
    say,
    service_under_test,
    snapshot,
)
from serve_app.launch.cluster import LaunchError

FINAL_P95_BAR_MS = 900.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = command_line("live_sessions", __doc__)
    parser.add_argument("--sessions", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0, help="audio per session, at least")
    parser.add_argument("--model", default="tiny.en", help="for a server started here: finals and interims")
    parser.add_argument("--interim-model", help="where interims have a model of their own")
    parser.add_argument("--language", default="en")
    parser.add_argument("--profile", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--chunk-ms", type=int, default=100)
    parser.add_argument("--ramp", type=float, default=4.0, help="seconds over which the starts are spread")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--clips", type=Path, help="a folder of recordings with their words")
    parser.add_argument("--alone-speed", type=float, default=2.0, help="pace of the runs alone; 0 skips them")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    if options.sessions < 1 or options.seconds <= 0 or not 10 <= options.chunk_ms <= 1000 or options.ramp < 0:
        parser.error("--sessions and --seconds must be positive, --chunk-ms 10 to 1000, --ramp not negative")
    return options


async def measure(service: ServiceUnderTest, options: argparse.Namespace) -> dict[str, Any]:
    """Run the three phases; the result is what `--json` writes, with raw latencies under "raw"."""
    clips = load_clips(options.clips)
    plans = session_plans(clips, options.sessions, options.seconds)
    alone: dict[str, SessionResult] = {}
    if options.alone_speed > 0:
        say(f"{len({plan.name for plan in plans})} orders of clips, each alone")
        alone = await run_alone(
            service.url,
            plans,
            chunk_ms=options.chunk_ms,
            language=options.language,
            speed=options.alone_speed,
        )
    num_quarter = options.sessions // 4
    quarter = await _phase(service, options, plans[:num_quarter]) if num_quarter else None
    full = await _phase(service, options, plans)
    return summarise(options, full, quarter, alone)


async def _phase(
    service: ServiceUnderTest, options: argparse.Namespace, plans: Sequence[SessionPlan]
) -> LoadResult:
    say(f"{len(plans)} sessions, {options.seconds:.0f} s and more of audio each")
    return await run_load(
        service.url,
        plans,
        ramp_s=options.ramp,
        steady_until_s=options.seconds,
        chunk_ms=options.chunk_ms,
        language=options.language,
        measure=lambda: snapshot(service.runtime_dir),
    )


def summarise(
    options: argparse.Namespace,
    full: LoadResult,
    quarter: LoadResult | None,
    alone: dict[str, SessionResult],
) -> dict[str, Any]:
    """All figures of one run."""
    sessions = full.sessions
    through = [session for session in sessions if session.failure is None]
    finals = Percentiles.of(ms for session in through for ms in session.final_latency_ms)
    dropped_ms = sum(max(0.0, round(session.audio_dropped_ms, 1)) for session in through)
    slips = [ms for session in sessions for ms in session.send_slip_ms]
    result: dict[str, Any] = {
        "sessions": len(sessions),
        "sessions_failed": len(sessions) - len(through),
        "held": len(through) == len(sessions)
        and dropped_ms == 0
        and finals.p95 is not None
        and finals.p95 < FINAL_P95_BAR_MS,
        "model": None if options.url else options.model,
        "audio_s": round(sum(session.sent_samples for session in sessions) / 16_000, 1),
        "finals": finals.count,
        "interim_lag_ms": Percentiles.of(_all(through, "interim_lag_ms")).to_json(),
        "final_latency_ms": finals.to_json(),
        "final_after_speech_ms": Percentiles.of(_all(through, "final_after_speech_ms")).to_json(),
        "audio_dropped_ms": round(dropped_ms, 1),
        "send_slip_ms": Percentiles.of(slips).to_json(),
        "late_chunks": sum(slip > LATE_CHUNK_MS for slip in slips),
        **_accuracy(through, alone),
        **_cost(full, quarter),
        "failures": sorted({session.failure for session in sessions if session.failure}),
        "raw": {"final": _all(through, "final_latency_ms"), "interim": _all(through, "interim_lag_ms")},
    }
    return result


def _all(sessions: Sequence[SessionResult], name: str) -> list[float]:
    return [value for session in sessions for value in getattr(session, name)]


def _accuracy(through: Sequence[SessionResult], alone: dict[str, SessionResult]) -> dict[str, Any]:
    compared = [
        session
        for session in through
        if session.plan.name in alone and alone[session.plan.name].failure is None
    ]
    alone_through = [session for session in alone.values() if session.failure is None]
    wer = word_errors([s.plan.text for s in through], [s.text for s in through])
    vs_alone = word_errors([alone[s.plan.name].text for s in compared], [s.text for s in compared])
    wer_alone = word_errors([s.plan.text for s in alone_through], [s.text for s in alone_through])
    return {
        "wer": round(wer.rate, 4) if through else None,
        "wer_alone": round(wer_alone.rate, 4) if alone_through else None,
        "wer_vs_alone": round(vs_alone.rate, 4) if compared else None,
    }


def _cost(full: LoadResult, quarter: LoadResult | None) -> dict[str, Any]:
    num_sessions = len(full.sessions)
    cpu = cpu_between(full.before, full.after)
    cores = {kind: seconds / full.window_s for kind, seconds in cpu.items()}
    server_cores = sum(value for kind, value in cores.items() if kind != CLIENT)
    slopes: dict[str, float | None] = {"": None, "_with_voice_activity": None}
    if quarter is not None and len(quarter.sessions) < num_sessions:
        less = cpu_between(quarter.before, quarter.after)
        for suffix in slopes:
            rise = (
                overhead_s(cpu, with_voice_activity=bool(suffix)) / full.window_s
                - overhead_s(less, with_voice_activity=bool(suffix)) / quarter.window_s
            )
            slopes[suffix] = round(100 * rise / (num_sessions - len(quarter.sessions)), 3)
    return {
        "cpu_s_per_audio_s": round(server_cores / num_sessions, 4),
        "cpu_s_per_audio_s_by_process": {k: round(v / num_sessions, 5) for k, v in _ranked(cores)},
        "cores_by_process": {kind: round(value, 4) for kind, value in _ranked(cores)},
        "cores": round(server_cores, 3),
        "voice_activity_cores": round(cores.get(VOICE_ACTIVITY, 0.0), 4),
        **{f"overhead_core_percent_per_session{suffix}": value for suffix, value in slopes.items()},
        "rss_mb_by_process": {kind: round(size / 1e6) for kind, size in sorted(full.after.rss_bytes.items())},
    }


def _ranked(values: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda item: -item[1])


def show(result: dict[str, Any]) -> None:
    def milliseconds(name: str) -> str:
        value = result[name]
        return str(Percentiles(value["p50"], value["p95"], value["p99"], value["count"]))

    overhead = result["overhead_core_percent_per_session"]
    rows = [
        ("sessions", f"{result['sessions']}, {result['sessions_failed']} failed"),
        ("held in real time", "yes" if result["held"] else "no"),
        ("final latency, ms (p50 / p95 / p99)", milliseconds("final_latency_ms")),
        ("final after speech, ms", milliseconds("final_after_speech_ms")),
        ("interim lag, ms", milliseconds("interim_lag_ms")),
        ("audio dropped, ms; late chunks", f"{result['audio_dropped_ms']}; {result['late_chunks']}"),
        (
            "word error rate (alone; against alone)",
            f"{percent(result['wer'])} ({percent(result['wer_alone'])}; {percent(result['wer_vs_alone'])})",
        ),
        ("cores", f"{result['cores']:.2f}"),
        ("CPU s per audio s", f"{result['cpu_s_per_audio_s']:.4f}"),
        ("overhead, % of a core per session", "-" if overhead is None else f"{overhead:.2f}"),
        *((f"  {kind}", f"{1000 * value:.0f} mcores") for kind, value in result["cores_by_process"].items()),
    ]
    print_table("Live sessions", rows)
    for failure in result["failures"]:
        print(f"failed: {failure}")


@command(LaunchError, ValueError)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    settings = {"model": options.model, "language": options.language, "max_sessions": options.sessions + 1}
    if options.interim_model:
        settings["interim_model"] = options.interim_model
    with service_under_test(options.url, profile=options.profile, settings=settings) as service:
        result = asyncio.run(measure(service, options))
    raw = result.pop("raw")
    show(result)
    write_json(options.json, result)
    if options.plot:
        title = f"{result['sessions']} live sessions"
        plot_latencies_and_cpu(options.plot, title, raw, result["cores_by_process"])
    return 1 if result["sessions_failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
