"""How fast a transcriber is here: what is decoded to find out is what live sessions decode."""

import numpy as np

from fakes.fake_transcriber import FakeTranscriber
from serve_app.asr.pace import Pace, measure_pace
from serve_app.core.jobs import DecodeFailure, DecodeJob, Role

SPEECH = np.zeros(16_000 * 8, np.int16)


def test_finals_are_measured_with_what_an_interim_would_have_said() -> None:
    jobs: list[DecodeJob] = []

    def script(job: DecodeJob) -> str:
        jobs.append(job)
        return f"{job.audio_s:.2f} s"

    pace = measure_pace(FakeTranscriber(script=script), Role.FINAL, SPEECH, num_workers=2, batch=3, seconds=0)
    assert pace.audio_s_per_s > 0
    drafts, measured = jobs[:2], jobs[2:]
    assert [(job.audio_s, job.draft) for job in drafts] == [(2.55, ""), (6.8, "")]
    assert {(job.audio_s, job.draft) for job in measured} == {(3.0, "2.55 s"), (8.0, "6.80 s")}
    assert len(measured) == 2 * 2 * 3 * 2  # rounds, workers, jobs of a batch, parts


def test_of_a_transcriber_that_fails_nothing_is_known() -> None:
    class Failing(FakeTranscriber):
        def transcribe(self, jobs):
            return [DecodeFailure(job.job_id, "no") for job in jobs]

    assert measure_pace(Failing(), Role.FINAL, SPEECH, num_workers=1, batch=1, seconds=0) == Pace()
