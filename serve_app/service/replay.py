"""One utterance decoded as a live session decodes it, without a session: what measurements are made with.

Audio comes at its own pace only on paper: an interim every `step_s`, each with the newest text as its draft,
and a final. Decodes follow one another on one thread, so that CPU time is theirs alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from serve_app.asr.ports import Transcriber
from serve_app.core.errors import InferenceError
from serve_app.core.jobs import DecodeJob, Role, Transcript
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.session.utterance import draft_of
from serve_app.streaming.choice import policy_maker
from serve_app.streaming.policy import Ask, InterimText, PolicyOptions


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """`step_s`: seconds between two interims, `max_window_s`: the longest window of one."""

    policy: PolicyOptions = PolicyOptions()
    step_s: float = 0.5
    max_window_s: float = 8.0
    drafts: bool = True


@dataclass(frozen=True, slots=True)
class Shown:
    """Text that the audio up to `end_sample` gave, and the CPU seconds after which it was there."""

    end_sample: int
    text: InterimText
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Replay:
    """`final` is the whole utterance's, times from its start; CPU seconds of the process."""

    final: Transcript
    final_job: DecodeJob
    shown: tuple[Shown, ...]
    num_interims: int
    interim_cpu_s: float
    final_cpu_s: float


def replay_utterance(
    models: Mapping[Role, Transcriber], speech: Pcm16, language: str, options: ReplayOptions | None = None
) -> Replay:
    """Decode int16 `(n,)` at 16 kHz, 30 s at most, by `models` of finals and interims. Blocking. Raises
    `InferenceError`."""
    options = options or ReplayOptions()
    policy = policy_maker(options.policy)(0)
    longest = round(options.max_window_s * SAMPLE_RATE_HZ)
    newest: Transcript | None = None
    shown: list[Shown] = []
    num_interims, interims_cpu_s = 0, 0.0
    step = round(options.step_s * SAMPLE_RATE_HZ)
    for end in range(step, len(speech), step):
        ask = policy.ask_interim(end, longest)
        job = _job(Role.INTERIM, ask, speech[ask.start_sample : end], language)
        job = replace(job, draft=draft_of(ask, newest) if options.drafts else "")
        transcript, cpu_s = decode_timed(models[ask.model or Role.INTERIM], job)
        num_interims, interims_cpu_s = num_interims + 1, interims_cpu_s + cpu_s
        text = policy.take(transcript, ask, end)
        if text is not None:
            newest = replace(transcript, text=text.text, words=())
            shown.append(Shown(end, text, cpu_s))
    ask = policy.ask_final()
    job = _job(Role.FINAL, replace(ask, word_timestamps=True), speech[ask.start_sample :], language)
    job = replace(job, draft=draft_of(ask, newest) if options.drafts else "")
    transcript, final_cpu_s = decode_timed(models[Role.FINAL], job)
    final = policy.complete(transcript, ask)
    return Replay(final, job, tuple(shown), num_interims, interims_cpu_s, final_cpu_s)


def decode_timed(transcriber: Transcriber, job: DecodeJob) -> tuple[Transcript, float]:
    """A job's text, and the CPU seconds of this process meanwhile. Raises `InferenceError`."""
    started_s = time.process_time()
    (result,) = transcriber.transcribe([job])
    cpu_s = time.process_time() - started_s
    if not isinstance(result, Transcript):
        raise InferenceError(result.message)
    return result, cpu_s


def _job(role: Role, ask: Ask, audio: Pcm16, language: str) -> DecodeJob:
    return DecodeJob(
        0,
        role,
        audio,
        language,
        prompt=ask.previous,
        word_timestamps=ask.word_timestamps,
        prefix=ask.prefix,
        attention=ask.attention,
        model=ask.model,
    )
