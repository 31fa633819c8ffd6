import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.clips import Turn as ReferenceTurn
from benchmarks.speakers.scoring import (
    DiarizationErrors,
    TimedWord,
    WordSpeakerErrors,
    diarization_errors,
    reference_words,
    word_speaker_errors,
)
from fakes.extras import needs_speakers
from serve_app.speakers.turns import Turn

RECORDING = Clip(
    "made up",
    np.zeros(16_000 * 12, np.int16),
    "a word of hers",
    turns=(ReferenceTurn(1.0, 5.0, "a word of hers", "ann"), ReferenceTurn(6.0, 10.0, "", "ben")),
)


@needs_speakers
def test_nothing_wrong_whatever_the_names() -> None:
    errors = diarization_errors(RECORDING, [Turn(1, 5, 7), Turn(6, 10, 3)])
    assert errors == DiarizationErrors(8.0, 0.0, 0.0, 0.0)
    assert errors.rate == 0.0


@needs_speakers
def test_each_kind_of_error() -> None:
    # Ann is heard half a second late; Ben's last second is said to be hers; a second after that is nobody's.
    errors = diarization_errors(RECORDING, [Turn(1.5, 5, 0), Turn(6, 9, 1), Turn(9, 11, 0)])
    assert errors == DiarizationErrors(8.0, 0.5, 1.0, 1.0)
    assert errors.rate == pytest.approx(2.5 / 8)
    assert (errors + errors).rate == errors.rate


@needs_speakers
def test_a_collar_forgives_boundaries() -> None:
    shifted = [Turn(1.1, 5.1, 0), Turn(6.1, 10.1, 1)]
    assert diarization_errors(RECORDING, shifted).rate == pytest.approx(0.05)
    assert diarization_errors(RECORDING, shifted, 0.25).rate == 0.0


@needs_speakers
def test_overlap_counts_for_both() -> None:
    both = Clip(
        "both", RECORDING.samples, "", turns=(ReferenceTurn(0, 4, "", "ann"), ReferenceTurn(2, 4, "", "ben"))
    )
    assert diarization_errors(both, [Turn(0, 4, 0)]) == DiarizationErrors(6.0, 2.0, 0.0, 0.0)


def test_words_are_spread_over_their_turn_by_length() -> None:
    words = reference_words(RECORDING)
    hers = [word for word in words if word.speaker == "ann"]
    # "a word of hers": 2, 5, 3 and 5 letters with their spaces, in four seconds.
    assert [word.start_s for word in hers] == pytest.approx([1.0, 1 + 8 / 15, 1 + 28 / 15, 1 + 40 / 15])
    assert hers[-1].end_s == 5.0
    assert len(words) - len(hers) == round(4 / 0.35)


@needs_speakers
def test_words_under_the_wrong_speaker() -> None:
    words = [TimedWord(i, i + 1, speaker) for i, speaker in enumerate("aaabbb")]
    assert word_speaker_errors(words, [5, 5, 5, 2, 2, 2]) == WordSpeakerErrors(6, 0)
    assert word_speaker_errors(words, [5, 5, 2, 2, 2, None]) == WordSpeakerErrors(6, 2)
    assert word_speaker_errors(words, [None] * 6).rate == 1.0
    assert (WordSpeakerErrors(6, 2) + WordSpeakerErrors(4, 0)).rate == 0.2
    assert word_speaker_errors([], []).rate == 0.0
