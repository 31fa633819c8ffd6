import numpy as np

from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from serve_app.service.contract import RecordingOptions
from serve_app.service.recordings import RecordingTranscriber


def long_talk():
    return speak([Say(n, ms=250, pause_ms=100 if n % 7 else 900) for n in range(1, 200)])


async def test_segments_are_told_in_order_whatever_order_they_are_decoded_in():
    recogniser = FakeRecogniser(delay_s=lambda job: 0.02 if job.job_id % 3 == 0 else 0.0)
    transcriber = RecordingTranscriber(voice=FakeVoice(), recogniser=recogniser)
    told = []
    transcript = await transcriber.transcribe(
        long_talk(), RecordingOptions(language="en"), on_segment=told.append
    )
    assert len(told) > 3
    assert tuple(told) == transcript.segments


async def test_the_first_segment_does_not_wait_for_the_last():
    shares, told_at = [], []
    transcriber = RecordingTranscriber(
        voice=FakeVoice(), recogniser=FakeRecogniser(), max_windows_in_flight=1
    )
    await transcriber.transcribe(
        long_talk(),
        RecordingOptions(language="en"),
        progress=shares.append,
        on_segment=lambda segment: told_at.append(shares[-1]),
    )
    assert told_at[0] < 0.5
    assert told_at == sorted(told_at)


async def test_silence_has_no_segments():
    told = []
    transcriber = RecordingTranscriber(voice=FakeVoice(), recogniser=FakeRecogniser())
    await transcriber.transcribe(np.zeros(32_000, np.int16), RecordingOptions(), on_segment=told.append)
    assert told == []


async def test_without_a_detector_a_segment_begins_where_there_is_sound():
    quiet = np.random.default_rng(0).normal(0, 3, 8 * 16_000).astype(np.int16)
    audio = np.concatenate([quiet, speak([Say(n, ms=250, pause_ms=100) for n in range(1, 6)])])
    transcriber = RecordingTranscriber(voice=FakeVoice(), recogniser=FakeRecogniser())
    transcript = await transcriber.transcribe(audio, RecordingOptions(language="en", vad_filter=False))
    assert 8.3 <= transcript.segments[0].start_s <= 8.6
