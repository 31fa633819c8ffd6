"""Recordings with their speakers: both halves at once, joined by the word, and honest where one fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import numpy as np
import pytest

from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from fakes.voices import FakeSpeakers
from serve_app.core.errors import InferenceError, SpeakersUnavailable
from serve_app.core.jobs import DecodeJob, DecodeResult
from serve_app.core.samples import Pcm16
from serve_app.service import retries
from serve_app.service.contract import RecordingOptions, RecordingSegment
from serve_app.service.ports import ReplicaLost
from serve_app.service.recording_speakers import SpeakerRecordings
from serve_app.service.recordings import RecordingTranscriber
from serve_app.speakers.turns import Diarization, SpeakerCounts, SpeakerMode

BY_VOICE = RecordingOptions(language="en", speakers=SpeakerMode.VOICE)
TALK = [Say(1), Say(2), Say(101), Say(102), Say(3, pause_ms=2_000), Say(103), Say(104), Say(201)]
AUDIO = speak(TALK)


def recordings(speakers: FakeSpeakers | None, recogniser: FakeRecogniser | None = None) -> SpeakerRecordings:
    transcriber = RecordingTranscriber(voice=FakeVoice(), recogniser=recogniser or FakeRecogniser())
    return SpeakerRecordings(transcriber, speakers)


async def test_segments_are_cut_where_another_speaker_begins() -> None:
    shares: list[float] = []
    told: list[RecordingSegment] = []
    answer = await recordings(FakeSpeakers()).transcribe(AUDIO, BY_VOICE, shares.append, told.append)
    assert [(segment.speaker, segment.text) for segment in answer.segments] == [
        (0, "w1 w2"),
        (1, "w101 w102"),
        (0, "w3"),
        (1, "w103 w104"),
        (2, "w201"),
    ]
    assert tuple(told) == answer.segments
    assert answer.num_speakers == 3
    assert [turn.speaker for turn in answer.turns] == [0, 0, 1, 1, 0, 1, 1, 2]
    assert answer.text == "w1 w2 w101 w102 w3 w103 w104 w201"
    assert all(segment.words == () for segment in answer.segments)  # nobody asked for words
    for before, after in zip(answer.segments, answer.segments[1:], strict=False):
        assert before.start_s < before.end_s <= after.start_s
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.75)  # the fake diarizer says no more than half


async def test_words_carry_their_speaker_where_words_are_asked_for() -> None:
    options = RecordingOptions(language="en", speakers=SpeakerMode.VOICE, word_timestamps=True)
    answer = await recordings(FakeSpeakers()).transcribe(AUDIO, options)
    words = [(word.word, word.speaker) for segment in answer.segments for word in segment.words]
    assert words == [
        (" w1", 0), (" w2", 0), (" w101", 1), (" w102", 1),
        (" w3", 0), (" w103", 1), (" w104", 1), (" w201", 2),
    ]  # fmt: skip


async def test_text_and_turns_are_made_at_the_same_time() -> None:
    """Each half waits for the other to have begun: one after the other would hang."""
    decoding, listening = asyncio.Event(), asyncio.Event()

    class Recogniser(FakeRecogniser):
        async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncGenerator[DecodeResult, None]:
            decoding.set()
            await listening.wait()
            async for result in super().decode(jobs):
                yield result

    class Speakers(FakeSpeakers):
        async def diarize(self, audio: Pcm16, counts: SpeakerCounts) -> AsyncIterator[float | Diarization]:
            listening.set()
            await decoding.wait()
            async for answer in super().diarize(audio, counts):
                yield answer

    async with asyncio.timeout(60):
        answer = await recordings(Speakers(), Recogniser()).transcribe(AUDIO, BY_VOICE)
    assert answer.num_speakers == 3


async def test_counts_reach_the_diarizer_and_a_lost_replica_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))
    speakers = FakeSpeakers(failures=[ReplicaLost("died")])
    two = SpeakerCounts(exact=2)
    options = RecordingOptions(language="en", speakers=SpeakerMode.VOICE, speaker_counts=two)
    await recordings(speakers).transcribe(AUDIO, options)
    assert speakers.counts == [two] * 2
    gone = FakeSpeakers(failures=[ReplicaLost("died")] * 3)
    with pytest.raises(InferenceError, match="died"):
        await recordings(gone).transcribe(AUDIO, options)


async def test_a_half_that_fails_ends_the_other_and_is_what_the_caller_sees() -> None:
    with pytest.raises(InferenceError, match="too strange"):
        await recordings(FakeSpeakers(failures=[InferenceError("too strange")])).transcribe(AUDIO, BY_VOICE)
    with pytest.raises(InferenceError, match="cannot decode"):
        await recordings(FakeSpeakers(), FakeRecogniser(fails=lambda _: True)).transcribe(AUDIO, BY_VOICE)
    with pytest.raises(SpeakersUnavailable):
        await recordings(None).transcribe(AUDIO, BY_VOICE)


async def test_silence_has_text_and_speakers_of_nobody() -> None:
    answer = await recordings(FakeSpeakers()).transcribe(np.zeros(48_000, np.int16), BY_VOICE)
    assert (answer.text, answer.segments, answer.num_speakers) == ("", (), 0)


async def test_channels_are_decoded_apart_and_told_in_the_order_spoken() -> None:
    near = speak([Say(1), Say(2, pause_ms=3_000), Say(3)])
    far = speak([Say(101), Say(102)], lead_ms=1_600)
    both = np.zeros((max(len(near), len(far)), 2), np.int16)
    both[: len(near), 0], both[: len(far), 1] = near, far
    speakers = FakeSpeakers()
    options = RecordingOptions(language="en", speakers=SpeakerMode.CHANNEL)
    answer = await recordings(speakers).transcribe(both, options)
    assert [(segment.speaker, segment.text) for segment in answer.segments] == [
        (0, "w1 w2"),
        (1, "w101 w102"),
        (0, "w3"),
    ]
    assert answer.num_speakers == 2
    assert answer.duration_s == pytest.approx(len(both) / 16_000)
    assert speakers.num_calls == 0
    one = await recordings(None).transcribe(near[:, np.newaxis], options)
    assert {segment.speaker for segment in one.segments} == {0}


async def test_without_speakers_nothing_is_asked_of_the_diarizer() -> None:
    speakers = FakeSpeakers()
    answer = await recordings(speakers).transcribe(AUDIO, RecordingOptions(language="en"))
    assert speakers.num_calls == 0
    assert answer.num_speakers is None
    assert {segment.speaker for segment in answer.segments} == {None}
