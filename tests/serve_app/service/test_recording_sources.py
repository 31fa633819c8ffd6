"""A recording that is read while it is transcribed has the text of the same recording in an array."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from serve_app.audio.conditioning import ConditioningOptions
from serve_app.core.errors import PayloadTooLarge
from serve_app.core.jobs import DecodeJob, DecodeResult
from serve_app.core.samples import Pcm16
from serve_app.service.contract import AudioSource, RecordingOptions, RecordingTranscript
from serve_app.service.recording_speakers import SpeakerRecordings
from serve_app.service.recordings import VOICE_BLOCK_SAMPLES, RecordingTranscriber, RollingAudio
from serve_app.speakers.turns import SpeakerMode
from serve_app.vad.recording import AudioWindow


class Blocks:
    """A source of an array; `num_read` samples of it were asked for."""

    def __init__(self, audio: Pcm16, sizes: list[int], stated_s: float | None = None) -> None:
        self._audio = audio
        self.peak: int | None = int(np.abs(audio.astype(np.int32)).max())
        self._sizes = sizes
        self.stated_s = stated_s
        self.num_read = 0

    async def blocks(self) -> AsyncIterator[Pcm16]:
        index = 0
        while self.num_read < len(self._audio):
            start = self.num_read
            self.num_read = min(len(self._audio), start + self._sizes[index % len(self._sizes)])
            index += 1
            yield self._audio[start : self.num_read]


class Broken(Blocks):
    async def blocks(self) -> AsyncIterator[Pcm16]:
        async for block in super().blocks():
            yield block
        raise PayloadTooLarge("longer than it may be")


def talk(num: int, pause_ms: int = 100) -> Pcm16:
    return speak([Say(n, ms=250, pause_ms=pause_ms if n % 7 else 2_500) for n in range(1, num)])


async def text_of(
    audio: Pcm16 | AudioSource,
    options: RecordingOptions,
    progress: Callable[[float], None] | None = None,
) -> RecordingTranscript:
    transcriber = RecordingTranscriber(voice=FakeVoice(), recogniser=FakeRecogniser(), clock=lambda: 0.0)
    return await transcriber.transcribe(audio, options, progress)


@settings(deadline=None, max_examples=40)
@given(
    words=st.lists(
        st.tuples(st.integers(1, 200), st.integers(80, 900), st.integers(0, 4_000)), min_size=1, max_size=40
    ),
    cut=st.integers(1, 2_000),
    sizes=st.lists(st.integers(1_000, 3 * VOICE_BLOCK_SAMPLES), min_size=1, max_size=4),
    language=st.sampled_from(["en", None]),
    vad_filter=st.booleans(),
    normalise=st.booleans(),
    conditioning=st.sampled_from([ConditioningOptions(), ConditioningOptions(gain_db=3.0, high_pass=True)]),
)
async def test_the_text_is_that_of_the_array(
    words: list[tuple[int, int, int]],
    cut: int,
    sizes: list[int],
    language: str | None,
    vad_filter: bool,
    normalise: bool,
    conditioning: ConditioningOptions,
) -> None:
    audio = speak([Say(word, ms=ms, pause_ms=pause_ms) for word, ms, pause_ms in words])[:-cut]
    options = RecordingOptions(
        language=language, vad_filter=vad_filter, conditioning=conditioning, normalise=normalise
    )
    whole = await text_of(audio, options)
    assert await text_of(Blocks(audio, sizes), options) == whole


async def test_what_is_read_waits_for_what_is_decoded() -> None:
    go_on = asyncio.Event()

    class Waiting(FakeRecogniser):
        async def decode(self, jobs: Sequence[DecodeJob]) -> AsyncGenerator[DecodeResult, None]:
            await go_on.wait()
            async for result in super().decode(jobs):
                yield result

    audio = talk(1_000)
    source = Blocks(audio, [16_000])
    transcriber = RecordingTranscriber(
        voice=FakeVoice(), recogniser=Waiting(), max_windows_in_flight=2, clock=lambda: 0.0
    )
    working = asyncio.create_task(transcriber.transcribe(source, RecordingOptions(language="en")))
    read = -1
    while read != source.num_read:
        read = source.num_read
        await asyncio.sleep(0.02)
    assert read < len(audio) // 3
    go_on.set()
    transcript = await working
    assert source.num_read == len(audio)
    assert transcript == await text_of(audio, RecordingOptions(language="en"))


async def test_an_error_of_the_source_is_that_of_the_recording() -> None:
    with pytest.raises(PayloadTooLarge, match="longer than it may be"):
        await text_of(Broken(talk(100), [50_000]), RecordingOptions(language="en"))


@pytest.mark.parametrize("share", [0.5, 1.0, 2.0, None])
async def test_progress_never_passes_the_end_whatever_the_container_states(share: float | None) -> None:
    audio = talk(200)
    stated_s = None if share is None else len(audio) / 16_000 * share
    shares: list[float] = []
    await text_of(Blocks(audio, [16_000], stated_s), RecordingOptions(language="en"), shares.append)
    assert shares[-1] > 0.9
    assert max(shares) <= 1.0
    assert (shares[0] > 0.5) is (share is None)  # of an unknown length nothing is told before its end


async def test_speakers_want_the_whole_recording_and_a_gain_its_peak() -> None:
    source = Blocks(talk(3), [1_000])
    source.peak = None
    with pytest.raises(TypeError, match="peak"):
        await text_of(source, RecordingOptions(normalise=True))
    assert RecordingOptions(speakers=SpeakerMode.VOICE).needs_whole
    with pytest.raises(TypeError, match="whole"):
        await SpeakerRecordings(
            RecordingTranscriber(voice=FakeVoice(), recogniser=FakeRecogniser()), None
        ).transcribe(source, RecordingOptions(speakers=SpeakerMode.VOICE))


def test_what_was_dropped_cannot_be_cut() -> None:
    rolling = RollingAudio()
    for start in range(0, 40, 10):
        rolling.append(np.arange(start, start + 10, dtype=np.int16))
    rolling.drop_before(25)
    assert rolling.cut(AudioWindow(20, 33)).tolist() == list(range(20, 33))
    with pytest.raises(IndexError):
        rolling.cut(AudioWindow(19, 33))
