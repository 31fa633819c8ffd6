"""The language of a recording that names none: heard over all of it, not in its first second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.ports import FakeRecogniser, FakeVoice
from fakes.talk import Say, speak
from serve_app.core.jobs import DecodeJob, DecodeResult, Transcript
from serve_app.service.contract import RecordingOptions
from serve_app.service.recordings import RecordingTranscriber

SHORT_THEN_LONG = speak([Say(1, pause_ms=2_500), *(Say(n, ms=400, pause_ms=80) for n in range(2, 14))])
"""One word, a pause, then some six seconds of speech."""


class Hears(FakeRecogniser):
    """Detects `of_short` in windows under 1.5 s and English in others, each with a probability."""

    def __init__(self, of_short: str, probability: float, doubted: str = "") -> None:
        super().__init__()
        self.of_short, self.probability, self.doubted = of_short, probability, doubted

    def _answer(self, job: DecodeJob) -> DecodeResult:
        answer = super()._answer(job)
        assert isinstance(answer, Transcript)
        if job.language is not None:
            return replace(answer, language_probability=1.0)
        if job.audio_s < 1.5:
            return replace(
                answer, language=self.of_short, language_probability=self.probability, doubted=self.doubted
            )
        return replace(answer, language="en", language_probability=0.98)


async def transcribe(recogniser: FakeRecogniser, options: RecordingOptions):
    told = []
    transcriber = RecordingTranscriber(voice=FakeVoice(), recogniser=recogniser)
    transcript = await transcriber.transcribe(SHORT_THEN_LONG, options, on_segment=told.append)
    assert tuple(told) == transcript.segments
    return transcript


async def test_a_weak_first_word_does_not_decide_and_is_decoded_again():
    recogniser = Hears("ms", 0.4)
    transcript = await transcribe(recogniser, RecordingOptions())
    assert transcript.language == "en"
    assert transcript.text.startswith("w1 w2 w3")
    again = [job for job in recogniser.jobs if job.audio_s < 1.5]
    assert [job.language for job in again] == [None, "en"]


async def test_a_sure_first_word_stays_in_its_language():
    recogniser = Hears("de", 0.97)
    transcript = await transcribe(recogniser, RecordingOptions())
    assert transcript.language == "en"
    assert [job.language for job in recogniser.jobs if job.audio_s < 1.5] == [None]


async def test_what_was_heard_is_a_hint_for_what_comes():
    recogniser = Hears("de", 0.97)
    await transcribe(recogniser, RecordingOptions(languages=("de", "en")))
    first, second = recogniser.jobs[:2]
    assert (first.hint.among, first.hint.evidence) == (("de", "en"), ())
    assert second.hint.seconds("de") > 0


async def test_one_sentence_is_never_nothing():
    """A doubted text of detected speech is said, with what is doubted about it."""
    transcript = await transcribe(Hears("ms", 0.4, doubted="unintelligible"), RecordingOptions())
    assert transcript.text.startswith("w1 w2")


@pytest.mark.parametrize(
    ("options", "num_withheld"),
    [(RecordingOptions(language="en", withhold_doubted=True), 2), (RecordingOptions(vad_filter=False), 0)],
)
async def test_doubted_texts_are_left_out_on_request_and_where_no_detector_listened(options, num_withheld):
    class Doubts(FakeRecogniser):
        def _answer(self, job: DecodeJob) -> DecodeResult:
            answer = super()._answer(job)
            assert isinstance(answer, Transcript)
            return replace(answer, doubted="unintelligible")

    transcript = await transcribe(Doubts(), options)
    assert (transcript.text, transcript.num_withheld) == ("", num_withheld)
