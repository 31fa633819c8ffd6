"""Whole recordings through the same recognisers: windows cut at silences, several on their way at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from serve_app.asr.heard import sounding
from serve_app.audio.conditioning import Conditioner, normalise_peak
from serve_app.core.errors import InferenceError
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    LanguageHint,
    Role,
    Transcript,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.formatting import FormattingOptions, format_text, format_words
from serve_app.service.contract import RecordingOptions, RecordingSegment, RecordingTranscript
from serve_app.service.ports import RecogniserPort, VoicePort
from serve_app.service.retries import decode_reliably, detect_reliably
from serve_app.session.language import LanguageOptions, LanguageTracker
from serve_app.session.options import LANGUAGE_LOCK_S
from serve_app.telemetry.traces import Traces
from serve_app.vad.detector import WINDOW_SAMPLES, VadRequest, VadState, loudness
from serve_app.vad.recording import AudioWindow, WindowPlanner

VOICE_BLOCK_SAMPLES = 320 * 512
"""Some 10 s of audio per voice call: the detector is shared with live sessions."""
SURE_LANGUAGE = 0.9
"""A window that is surer than this of another language than the recording's is in that language."""


class RecordingTranscriber:
    """Decodes recordings; keeps at most `max_windows_in_flight` windows of each on their way."""

    def __init__(
        self,
        *,
        voice: VoicePort,
        recogniser: RecogniserPort,
        beam_size: int = 1,
        max_windows_in_flight: int = 4,
        on_retry: Callable[[], None] = lambda: None,
        on_decoded: Callable[[DecodeResult], None] = lambda result: None,
        clock: Callable[[], float] = time.monotonic,
        traces: Traces | None = None,
    ) -> None:
        self._voice = voice
        self._recogniser = recogniser
        self._beam_size = beam_size
        self._max_windows = max_windows_in_flight
        self._on_retry = on_retry
        self._on_decoded = on_decoded
        self._clock = clock
        self._traces = traces
        self._next_job_id = 0

    async def transcribe(
        self,
        audio: Pcm16,
        options: RecordingOptions,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[RecordingSegment], None] | None = None,
    ) -> RecordingTranscript:
        """Text of int16 `(n,)` audio. `progress` hears the share decoded, 0 to 1; `on_segment` every segment
        in the order of the recording, as soon as those before it are there. Raises `InferenceError`."""
        began_s = self._clock()
        if options.normalise or options.conditioning.any:
            audio = await asyncio.to_thread(_conditioned, audio, options)
        audio_s = len(audio) / SAMPLE_RATE_HZ
        with nullcontext("") if self._traces is None else self._traces.recording(audio_s) as trace:
            run = _Run(self, audio, options, progress, on_segment, trace)
            await run.decode_all()
        return run.transcript(self._clock() - began_s)

    def job(
        self,
        audio: Pcm16,
        options: RecordingOptions,
        language: str | None,
        hint: LanguageHint,
        trace: str = "",
    ) -> DecodeJob:
        self._next_job_id += 1
        return DecodeJob(
            job_id=self._next_job_id,
            role=Role.RECORDING,
            audio=audio,
            language=language,
            task=options.task,
            word_timestamps=options.word_timestamps,
            prompt=options.prompt,
            beam_size=options.beam_size or self._beam_size,
            hotwords=options.hotwords,
            temperature=options.temperature,
            hint=hint,
            trace=trace,
        )

    async def decode(self, job: DecodeJob) -> Transcript:
        """One window's text. Raises `InferenceError` where there is none."""
        results = [result async for result in decode_reliably(self._recogniser, [job], self._on_retry)]
        self._on_decoded(results[0])
        if isinstance(results[0], DecodeFailure):
            raise InferenceError(results[0].message)
        return results[0]

    async def voice(self, request: VadRequest) -> tuple[list[float], VadState]:
        (result,) = await detect_reliably(self._voice, [request], self._on_retry)
        return [float(probability) for probability in result.probs], result.state

    @property
    def max_windows(self) -> int:
        return self._max_windows


class _Run:
    """One recording on its way."""

    def __init__(
        self,
        owner: RecordingTranscriber,
        audio: Pcm16,
        options: RecordingOptions,
        progress: Callable[[float], None] | None,
        on_segment: Callable[[RecordingSegment], None] | None,
        trace: str,
    ) -> None:
        self._owner = owner
        self._trace = trace
        self._audio = audio
        self._options = options
        self._progress = progress
        self._on_segment = on_segment
        self._num_told = 0
        self._room = asyncio.Semaphore(owner.max_windows)
        self._results: dict[int, tuple[AudioWindow, Transcript]] = {}
        language = LanguageOptions(options.language, LANGUAGE_LOCK_S, options.languages)
        self._language = LanguageTracker(language)
        self._undecided: dict[int, tuple[AudioWindow, Transcript]] = {}
        self._done_samples = 0

    async def decode_all(self) -> None:
        """Plan windows while the detector runs; decode them as they come."""
        try:
            async with asyncio.TaskGroup() as tasks:
                index = 0
                async for window in self._windows():
                    await self._room.acquire()
                    if self._language.is_open:
                        # Until the language is sure windows go one at a time: each is a hint for the next.
                        await self._decode(index, window)
                    else:
                        tasks.create_task(self._decode(index, window))
                    index += 1
                await self._settle_language()
        except* InferenceError as failed:
            raise failed.exceptions[0] from None

    async def _windows(self) -> AsyncIterator[AudioWindow]:
        endpointing = replace(self._options.endpointing, enabled=self._options.vad_filter)
        planner = WindowPlanner(endpointing, num_samples=len(self._audio))
        state: VadState | None = None
        for start in range(0, len(self._audio), VOICE_BLOCK_SAMPLES):
            block = _whole_windows(self._audio[start : start + VOICE_BLOCK_SAMPLES])
            if self._options.vad_filter:
                probabilities, state = await self._owner.voice(VadRequest(block, state))
            else:
                probabilities = loudness(block)
            for window in planner.push(probabilities):
                yield window
        for window in planner.finish():
            yield window

    async def _decode(self, index: int, window: AudioWindow) -> None:
        try:
            result = await self._text_of(window, self._language.locked)
        finally:
            self._room.release()
        if self._language.is_open:
            await self._hear_language(index, window, result)
        else:
            self._results[index] = (self._heard(window, result), result)
        if self._progress is not None:
            self._done_samples = max(self._done_samples, window.end_sample)
            self._progress(self._done_samples / max(1, len(self._audio)))
        self._tell_segments()

    async def _text_of(self, window: AudioWindow, language: str | None) -> Transcript:
        audio = self._audio[window.start_sample : window.end_sample]
        hint = LanguageHint() if language else self._language.hint
        return await self._owner.decode(self._owner.job(audio, self._options, language, hint, self._trace))

    async def _hear_language(self, index: int, window: AudioWindow, result: Transcript) -> None:
        """Keep the window until the recording's language is known; then say it, and those kept with it."""
        self._undecided[index] = (window, result)
        if result.text.strip() and not result.doubted:
            seconds = (window.end_sample - window.start_sample) / SAMPLE_RATE_HZ
            self._language.observe(result.language, result.language_probability, seconds)
        if not self._language.is_open:
            await self._settle_language()

    async def _settle_language(self) -> None:
        """Windows that were not sure of a language other than the recording's are decoded again in that."""
        language = self._language.likeliest
        undecided, self._undecided = self._undecided, {}
        for index, (window, result) in undecided.items():
            is_unsure = result.doubted or result.language_probability < SURE_LANGUAGE
            if language is not None and result.language != language and is_unsure and not result.rejected:
                result = await self._text_of(window, language)
            self._results[index] = (self._heard(window, result), result)
        self._tell_segments()

    def _heard(self, window: AudioWindow, result: Transcript) -> AudioWindow:
        """Where in the window there is sound, if no words tell: without a detector it begins anywhere."""
        if self._options.vad_filter or result.words:
            return window
        start, end = sounding(self._audio[window.start_sample : window.end_sample])
        return AudioWindow(window.start_sample + start, window.start_sample + end)

    def _tell_segments(self) -> None:
        """Hand on what has no gap before it."""
        while self._on_segment is not None and (known := self._results.get(self._num_told)) is not None:
            self._num_told += 1
            window, result = known
            if self._is_said(result):
                self._on_segment(_segment(window, result, self._options.formatting))

    def _is_said(self, result: Transcript) -> bool:
        """A text that a guard does not believe is said where a detector heard speech."""
        heard = self._options.vad_filter and not self._options.withhold_doubted
        return bool(result.text.strip()) and (heard or not result.doubted)

    def transcript(self, transcribe_s: float) -> RecordingTranscript:
        """Everything decoded, in the order of the recording."""
        ordered = [self._results[index] for index in sorted(self._results)]
        spoken = [(window, result) for window, result in ordered if self._is_said(result)]
        languages: Counter[str] = Counter()
        for window, result in spoken:
            languages[result.language] += window.end_sample - window.start_sample
        language = self._language.locked or (languages.most_common(1)[0][0] if languages else "")
        probabilities = [result.language_probability for _, result in spoken if result.language == language]
        segments = tuple(_segment(window, result, self._options.formatting) for window, result in spoken)
        return RecordingTranscript(
            text=" ".join(segment.text for segment in segments),
            segments=segments,
            language=language,
            language_probability=probabilities[0] if probabilities else 0.0,
            duration_s=len(self._audio) / SAMPLE_RATE_HZ,
            model=ordered[0][1].model if ordered else "",
            transcribe_s=transcribe_s,
            num_withheld=sum(bool(result.text.strip()) for _, result in ordered) - len(spoken)
            if self._options.withhold_doubted
            else 0,
        )


def _conditioned(audio: Pcm16, options: RecordingOptions) -> Pcm16:
    """Minutes of CPU time for hours of audio: not for the event loop."""
    if options.normalise:
        audio = normalise_peak(audio)
    return Conditioner(options.conditioning).process(audio)


def _segment(window: AudioWindow, result: Transcript, formatting: FormattingOptions) -> RecordingSegment:
    offset_s = window.start_sample / SAMPLE_RATE_HZ
    words = tuple(word.shifted(offset_s) for word in result.words)
    text = result.text.strip()
    if formatting.any:
        text = format_text(text, result.language, formatting)
        words = format_words(words, result.language, formatting)
    return RecordingSegment(
        start_s=words[0].start_s if words else offset_s,
        end_s=words[-1].end_s if words else window.end_sample / SAMPLE_RATE_HZ,
        text=text,
        avg_logprob=result.avg_logprob,
        no_speech_prob=result.no_speech_prob,
        words=words,
        confidence=result.confidence,
        doubted=result.doubted,
    )


def _whole_windows(block: Pcm16) -> Pcm16:
    """The block, its last window filled up with silence."""
    missing = -len(block) % WINDOW_SAMPLES
    return np.pad(block, (0, missing)) if missing else block
