"""Recordings with their speakers: text and turns are made at the same time and joined word by word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np

from serve_app.core.errors import SottoError, SpeakersUnavailable
from serve_app.core.jobs import Word
from serve_app.core.samples import Pcm16
from serve_app.service.contract import (
    AudioSource,
    RecordingOptions,
    RecordingSegment,
    RecordingTranscript,
)
from serve_app.service.ports import SpeakerPort
from serve_app.service.recordings import RecordingTranscriber
from serve_app.service.retries import diarize_reliably
from serve_app.session.overlap import join_words
from serve_app.speakers.turns import Diarization, SpeakerMode, Turn, TurnIndex, label_words, runs


class SpeakerRecordings:
    """Transcribes recordings; where it is asked for, says of every segment and word who spoke it."""

    def __init__(
        self,
        recordings: RecordingTranscriber,
        speakers: SpeakerPort | None,
        *,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._recordings = recordings
        self._speakers = speakers
        self._on_retry = on_retry

    async def transcribe(
        self,
        audio: Pcm16 | AudioSource,
        options: RecordingOptions,
        progress: Callable[[float], None] | None = None,
        on_segment: Callable[[RecordingSegment], None] | None = None,
    ) -> RecordingTranscript:
        """As `SpeechService.transcribe`; with speakers all segments are told at the end."""
        if options.speakers is SpeakerMode.OFF:
            return await self._recordings.transcribe(audio, options, progress, on_segment)
        if not isinstance(audio, np.ndarray):
            raise TypeError("who spoke is found in a whole recording")
        if options.speakers is SpeakerMode.CHANNEL:
            transcript = await self._by_channel(audio, options, progress)
        else:
            transcript = await self._by_voice(audio, options, progress)
        if on_segment is not None:
            for segment in transcript.segments:
                on_segment(segment)
        return transcript

    async def _by_voice(
        self, audio: Pcm16, options: RecordingOptions, progress: Callable[[float], None] | None
    ) -> RecordingTranscript:
        if self._speakers is None:
            raise SpeakersUnavailable("nothing here tells speakers apart")
        shares = _Shares(2, progress)
        timed = replace(options, word_timestamps=True)
        counts, port = options.speaker_counts, self._speakers
        async with _together() as tasks:
            text = tasks.create_task(self._recordings.transcribe(audio, timed, shares.of(0)))
            found = tasks.create_task(diarize_reliably(port, audio, counts, self._on_retry, shares.of(1)))
        return attribute(text.result(), found.result(), keep_words=options.word_timestamps)

    async def _by_channel(
        self, audio: Pcm16, options: RecordingOptions, progress: Callable[[float], None] | None
    ) -> RecordingTranscript:
        channels = [np.ascontiguousarray(channel) for channel in np.atleast_2d(audio.T)]
        shares = _Shares(len(channels), progress)
        async with _together() as tasks:
            texts = [
                tasks.create_task(self._recordings.transcribe(channel, options, shares.of(index)))
                for index, channel in enumerate(channels)
            ]
        return merge_channels(tuple(text.result() for text in texts))


class _Shares:
    """The progress of several parts as one."""

    def __init__(self, num_parts: int, progress: Callable[[float], None] | None) -> None:
        self._done = [0.0] * num_parts
        self._progress = progress

    def of(self, part: int) -> Callable[[float], None]:
        def progressed(share: float) -> None:
            self._done[part] = share
            if self._progress is not None:
                self._progress(sum(self._done) / len(self._done))

        return progressed


@asynccontextmanager
async def _together() -> AsyncIterator[asyncio.TaskGroup]:
    """Of its tasks the first that fails ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except* SottoError as failed:
        raise failed.exceptions[0] from None


def attribute(
    text: RecordingTranscript, diarization: Diarization, *, keep_words: bool
) -> RecordingTranscript:
    """Segments cut where another speaker begins; who is numbered in the order of the text is the diarizer's
    business, so that turns and segments agree."""
    index = TurnIndex(diarization.exclusive)
    segments: list[RecordingSegment] = []
    for segment in text.segments:
        words = label_words(segment.words, index)
        pieces = runs(words)
        if len(pieces) <= 1:
            speaker = words[0].speaker if words else index.speaker_of(segment.start_s, segment.end_s)
            segments.append(replace(segment, speaker=speaker, words=words))
            continue
        segments += [_piece(segment, piece) for piece in pieces]
    if not keep_words:
        segments = [replace(segment, words=()) for segment in segments]
    return replace(
        text,
        text=" ".join(segment.text for segment in segments),
        segments=tuple(segments),
        turns=diarization.turns,
        num_speakers=diarization.num_speakers,
    )


def _piece(segment: RecordingSegment, words: tuple[Word, ...]) -> RecordingSegment:
    return replace(
        segment,
        start_s=words[0].start_s,
        end_s=words[-1].end_s,
        text=join_words(words),
        words=words,
        speaker=words[0].speaker,
    )


def merge_channels(texts: tuple[RecordingTranscript, ...]) -> RecordingTranscript:
    """What was said on each channel, in the order in which it was said; the channel is the speaker."""
    segments = sorted(
        (
            replace(
                segment,
                speaker=channel,
                words=tuple(replace(word, speaker=channel) for word in segment.words),
            )
            for channel, text in enumerate(texts)
            for segment in text.segments
        ),
        key=lambda segment: segment.start_s,
    )
    spoken = max(texts, key=lambda text: sum(s.end_s - s.start_s for s in text.segments))
    turns = tuple(Turn(s.start_s, s.end_s, s.speaker or 0) for s in segments)
    return replace(
        spoken,
        text=" ".join(segment.text for segment in segments),
        segments=tuple(segments),
        duration_s=max(text.duration_s for text in texts),
        transcribe_s=max(text.transcribe_s for text in texts),
        turns=turns,
        num_speakers=len({turn.speaker for turn in turns}),
    )
