"""Whole recordings through the same recognisers: windows cut at silences, several on their way at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace

import numpy as np

from serve_app.asr.heard import sounding
from serve_app.audio.conditioning import Conditioner, amplify, peak_gain, peak_of
from serve_app.core.errors import InferenceError, SottoError
from serve_app.core.jobs import (
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    LanguageHint,
    Role,
    Transcript,
)
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16, join
from serve_app.formatting import FormattingOptions, format_text, format_words
from serve_app.service.contract import (
    AudioSource,
    RecordingOptions,
    RecordingSegment,
    RecordingTranscript,
)
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
        audio: Pcm16 | AudioSource,
        options: RecordingOptions,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[RecordingSegment], None] | None = None,
    ) -> RecordingTranscript:
        """Text of int16 `(n,)` audio, or of a source, which is read as windows are decoded. `progress` hears
        the share decoded, 0 to 1; `on_segment` every segment in the order of the recording, as soon as those
        before it are there. Raises `InferenceError` and what the source raises."""
        began_s = self._clock()
        source: AudioSource = WholeAudio(audio) if isinstance(audio, np.ndarray) else audio
        audio_s = source.stated_s or 0.0
        with nullcontext("") if self._traces is None else self._traces.recording(audio_s) as trace:
            run = _Run(self, source, options, progress, on_segment, trace)
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


@dataclass(frozen=True, slots=True)
class WholeAudio:
    """An array as a source; its blocks are views."""

    samples: Pcm16

    @property
    def stated_s(self) -> float:
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def peak(self) -> int:
        return peak_of(self.samples)

    async def blocks(self) -> AsyncIterator[Pcm16]:
        for start in range(0, len(self.samples), VOICE_BLOCK_SAMPLES):
            yield self.samples[start : start + VOICE_BLOCK_SAMPLES]


@dataclass(frozen=True, slots=True)
class _Heard:
    """A window's text before the recording's language is known; `audio` where it may be decoded again."""

    window: AudioWindow
    result: Transcript
    audio: Pcm16 | None


class _Run:
    """One recording on its way. Of its audio it holds what is not cut into windows yet, the windows that are
    being decoded, and those that may be decoded again once the language is known."""

    def __init__(
        self,
        owner: RecordingTranscriber,
        source: AudioSource,
        options: RecordingOptions,
        progress: Callable[[float], None] | None,
        on_segment: Callable[[RecordingSegment], None] | None,
        trace: str,
    ) -> None:
        self._owner = owner
        self._trace = trace
        self._source = source
        self._num_samples = 0  # read so far
        self._is_read = False
        self._options = options
        self._progress = progress
        self._on_segment = on_segment
        self._num_told = 0
        self._room = asyncio.Semaphore(owner.max_windows)
        self._results: dict[int, tuple[AudioWindow, Transcript]] = {}
        language = LanguageOptions(options.language, LANGUAGE_LOCK_S, options.languages)
        self._language = LanguageTracker(language)
        self._undecided: dict[int, _Heard] = {}
        self._done_samples = 0

    async def decode_all(self) -> None:
        """Plan windows while the detector runs; decode them as they come. Audio is read no faster than that:
        a window that waits for room keeps the next block from being read."""
        try:
            async with asyncio.TaskGroup() as tasks, aclosing(self._windows()) as windows:
                index = 0
                async for window, audio in windows:
                    await self._room.acquire()
                    if self._language.is_open:
                        # Until the language is sure windows go one at a time: each is a hint for the next.
                        await self._decode(index, window, audio)
                    else:
                        tasks.create_task(self._decode(index, window, audio))
                    index += 1
                await self._settle_language()
        except ExceptionGroup as failed:
            errors = failed.exceptions
            raise next((error for error in errors if isinstance(error, SottoError)), errors[0]) from None

    async def _windows(self) -> AsyncGenerator[tuple[AudioWindow, Pcm16], None]:
        """The windows and their samples, which are copies: what they were cut from can be dropped."""
        planner = WindowPlanner(replace(self._options.endpointing, enabled=self._options.vad_filter))
        kept = RollingAudio()
        state: VadState | None = None
        async with aclosing(self._voice_blocks()) as blocks:
            async for block in blocks:
                kept.append(block)
                if len(block) < VOICE_BLOCK_SAMPLES:
                    planner.ends_at(kept.end)
                padded = _whole_windows(block)
                if self._options.vad_filter:
                    probabilities, state = await self._owner.voice(VadRequest(padded, state))
                else:
                    probabilities = loudness(padded)
                for window in planner.push(probabilities):
                    yield window, kept.cut(window)
                kept.drop_before(planner.needed_from)
        planner.ends_at(kept.end)
        for window in planner.finish():
            yield window, kept.cut(window)

    async def _voice_blocks(self) -> AsyncGenerator[Pcm16, None]:
        """The recording, conditioned, in blocks of `VOICE_BLOCK_SAMPLES`; the last may be shorter."""
        conditioned = await self._conditioning()
        parts: list[Pcm16] = []
        num_samples = 0
        async for samples in self._source.blocks():
            self._num_samples += len(samples)
            if conditioned is not None:  # minutes of CPU time for hours of audio: not for the event loop
                samples = await asyncio.to_thread(conditioned, samples)
            parts.append(samples)
            num_samples += len(samples)
            if num_samples < VOICE_BLOCK_SAMPLES:
                continue
            whole = join(parts)
            rest = num_samples % VOICE_BLOCK_SAMPLES
            for start in range(0, num_samples - rest, VOICE_BLOCK_SAMPLES):
                yield whole[start : start + VOICE_BLOCK_SAMPLES]
            parts, num_samples = [whole[num_samples - rest :]] if rest else [], rest
        self._is_read = True
        if num_samples:
            yield join(parts)

    async def _conditioning(self) -> Callable[[Pcm16], Pcm16] | None:
        """What each block goes through, in their order; None: nothing."""
        process = Conditioner(self._options.conditioning).process
        if not self._options.normalise:
            return process if self._options.conditioning.any else None
        peak = await asyncio.to_thread(lambda: self._source.peak)
        if peak is None:
            raise TypeError("to normalise a source its peak must be known")
        gain = peak_gain(peak)
        return lambda samples: process(amplify(samples, gain))

    async def _decode(self, index: int, window: AudioWindow, audio: Pcm16) -> None:
        try:
            result = await self._text_of(audio, self._language.locked)
        finally:
            self._room.release()
        if self._language.is_open:
            await self._hear_language(index, window, result, audio)
        else:
            self._results[index] = (self._heard(window, result, audio), result)
        self._done_samples = max(self._done_samples, window.end_sample)
        self._tell_progress()
        self._tell_segments()

    def _tell_progress(self) -> None:
        """Nothing is told while the length is unknown; a source may be longer than it states."""
        stated = round((self._source.stated_s or 0.0) * SAMPLE_RATE_HZ)
        total = self._num_samples if self._is_read else max(stated, self._num_samples)
        if self._progress is not None and (stated or self._is_read):
            self._progress(min(1.0, self._done_samples / max(1, total)))

    async def _text_of(self, audio: Pcm16, language: str | None) -> Transcript:
        hint = LanguageHint() if language else self._language.hint
        return await self._owner.decode(self._owner.job(audio, self._options, language, hint, self._trace))

    async def _hear_language(self, index: int, window: AudioWindow, result: Transcript, audio: Pcm16) -> None:
        """Keep the window until the recording's language is known; then say it, and those kept with it."""
        is_unsure = result.doubted or result.language_probability < SURE_LANGUAGE
        if is_unsure and not result.rejected:
            self._undecided[index] = _Heard(window, result, audio)
        else:
            self._undecided[index] = _Heard(self._heard(window, result, audio), result, None)
        if result.text.strip() and not result.doubted:
            seconds = (window.end_sample - window.start_sample) / SAMPLE_RATE_HZ
            self._language.observe(result.language, result.language_probability, seconds)
        if not self._language.is_open:
            await self._settle_language()

    async def _settle_language(self) -> None:
        """Windows that were not sure of a language other than the recording's are decoded again in that."""
        language = self._language.likeliest
        undecided, self._undecided = self._undecided, {}
        for index, heard in undecided.items():
            window, result = heard.window, heard.result
            if heard.audio is not None:
                if language is not None and result.language != language:
                    result = await self._text_of(heard.audio, language)
                window = self._heard(window, result, heard.audio)
            self._results[index] = (window, result)
        self._tell_segments()

    def _heard(self, window: AudioWindow, result: Transcript, audio: Pcm16) -> AudioWindow:
        """Where in the window there is sound, if no words tell: without a detector it begins anywhere."""
        if self._options.vad_filter or result.words:
            return window
        start, end = sounding(audio)
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
            duration_s=self._num_samples / SAMPLE_RATE_HZ,
            model=ordered[0][1].model if ordered else "",
            transcribe_s=transcribe_s,
            num_withheld=sum(bool(result.text.strip()) for _, result in ordered) - len(spoken)
            if self._options.withhold_doubted
            else 0,
        )


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


class RollingAudio:
    """The newest part of a recording, by the sample numbers of the whole."""

    def __init__(self) -> None:
        self._blocks: deque[Pcm16] = deque()
        self._start = self.end = 0

    def append(self, block: Pcm16) -> None:
        self._blocks.append(block)
        self.end += len(block)

    def drop_before(self, sample: int) -> None:
        """Only whole blocks are dropped."""
        while self._blocks and self._start + len(self._blocks[0]) <= sample:
            self._start += len(self._blocks.popleft())

    def cut(self, window: AudioWindow) -> Pcm16:
        """A copy of the window's samples, all of which must be there still."""
        parts: list[Pcm16] = []
        at = self._start
        if window.start_sample < at:
            raise IndexError(f"samples from {window.start_sample} were dropped: the first is {at}")
        for block in self._blocks:
            if at < window.end_sample and at + len(block) > window.start_sample:
                parts.append(block[max(0, window.start_sample - at) : window.end_sample - at])
            at += len(block)
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)
