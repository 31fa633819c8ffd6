"""How late labels are, out of what a session heard."""

import pytest

from benchmarks.live.load import SessionLog
from benchmarks.speakers.lag import Lags, lags_of
from fakes.messages import final, word
from sotto_client.messages import SpeakerRevision


def revision(segment: str, speaker: str) -> SpeakerRevision:
    return SpeakerRevision(
        session_id="s", segment_id=segment, speaker=speaker, words=(speaker,), start_ms=0.0, end_ms=1.0
    )


def test_a_label_is_as_late_as_the_revision_that_brings_it() -> None:
    log = SessionLog(100, sent_at_s=[0.1, 0.2, 0.3])
    words = (word("yes", 0.0, 0.1),)
    log.hear(final("yes", 100.0, endpoint_ms=200.0, segment="1", words=words), 1.0)
    log.hear(revision("1", "SPEAKER_01"), 1.5)
    log.hear(revision("1", "SPEAKER_02"), 2.0)
    log.hear(final("no", 300.0, segment="2", words=words), 3.0)
    log.hear(revision("unknown", "SPEAKER_03"), 3.5)
    lags = lags_of(log)
    assert lags.label_ms == [pytest.approx(500)]
    assert lags.final_ms == [pytest.approx(800)]
    assert (lags.unlabelled, lags.revised, lags.speakers) == (1, 1, [2])
    assert lags + Lags(unlabelled=1) == Lags([500.0], lags.final_ms, 2, 1, [2])
