"""How fast a transcriber is here: what is decoded to find out is what live sessions decode."""

import numpy as np

from fakes.fake_transcriber import FakeTranscriber
from serve_app.asr.pace import Pace, measure_pace
from serve_app.core.jobs import DecodeFailure, DecodeJob, Role

SPEECH = np.zeros(16_000 * 8, np.int16)


def test_every_worker_decodes_a_short_and_a_long_part_without_drafts() -> None:
    jobs: list[DecodeJob] = []

    def script(job: DecodeJob) -> str:
        jobs.append(job)
        return "text"

    pace = measure_pace(FakeTranscriber(script=script), Role.FINAL, SPEECH, num_workers=2, batch=3, seconds=0)
    assert pace.audio_s_per_s > 0
    assert {(job.audio_s, job.draft) for job in jobs} == {(3.0, ""), (8.0, "")}
    assert len(jobs) == 2 * 2 * 3 * 2  # rounds, workers, jobs of a batch, parts


def test_of_a_transcriber_that_fails_nothing_is_known() -> None:
    class Failing(FakeTranscriber):
        def transcribe(self, jobs):
            return [DecodeFailure(job.job_id, "no") for job in jobs]

    assert measure_pace(Failing(), Role.FINAL, SPEECH, num_workers=1, batch=1, seconds=0) == Pace()
