"""What a live client may choose about speakers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.core.errors import InvalidMessage
from serve_app.protocols.choices import SessionChoices, choices_from_query
from serve_app.session.options import SessionOptions
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode

OFF, VOICE, CHANNEL = SpeakerMode.OFF, SpeakerMode.VOICE, SpeakerMode.CHANNEL


@pytest.mark.parametrize(
    ("choices", "default", "backend", "mode"),
    [
        ({}, OFF, "pyannote", OFF),
        ({}, VOICE, "pyannote", VOICE),
        ({}, CHANNEL, "channel", CHANNEL),
        ({"diarization": True}, OFF, "pyannote", VOICE),
        ({"diarization": True}, OFF, "channel", CHANNEL),
        ({"diarize": True}, OFF, "pyannote", VOICE),
        ({"diarize": True, "diarization": True}, OFF, "pyannote", VOICE),
        ({"diarization": False}, VOICE, "pyannote", OFF),
        ({"diarization": False, "diarization_backend": "channel"}, VOICE, "pyannote", OFF),
        ({"diarization": True, "diarization_backend": "channel"}, OFF, "pyannote", CHANNEL),
        ({"diarization": True, "diarization_backend": "diart"}, CHANNEL, "channel", VOICE),
        ({"diarization_backend": "channel"}, VOICE, "pyannote", CHANNEL),
        ({"diarization_backend": "channel"}, OFF, "pyannote", OFF),
        ({"num_speakers": 2}, OFF, "pyannote", OFF),
    ],
)
def test_whether_and_how_speakers_are_told_apart(choices, default, backend, mode):
    options = SessionChoices(**choices).session_options("s", SessionOptions("", speakers=default), backend)
    assert options.speakers is mode


def test_its_two_names_must_agree():
    with pytest.raises(InvalidMessage, match="disagree"):
        SessionChoices(diarization=True, diarize=False).session_options("s", SessionOptions(""))


def test_counts_lie_over_those_of_the_server():
    defaults = SessionOptions("", speaker_counts=SpeakerCounts(most=4))
    choices = SessionChoices(min_speakers=2)
    assert choices.session_options("s", defaults).speaker_counts == SpeakerCounts(least=2, most=4)
    assert SessionChoices().session_options("s", defaults).speaker_counts == SpeakerCounts(most=4)
    assert SessionChoices(num_speakers=9).session_options("s", defaults).speaker_counts.exact == 9


@pytest.mark.parametrize(
    "counts",
    [
        {"min_speakers": 3, "max_speakers": 2},
        {"num_speakers": 1, "min_speakers": 2},
        {"num_speakers": 3, "max_speakers": 2},
        {"min_speakers": 5},
    ],
)
def test_counts_that_contradict_each_other_are_refused(counts):
    defaults = SessionOptions("", speaker_counts=SpeakerCounts(most=4))
    with pytest.raises(InvalidMessage, match="speakers"):
        SessionChoices(**counts).session_options("s", defaults)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_speakers", "0"),
        ("max_speakers", "101"),
        ("min_speakers", "two"),
        ("diarization", "perhaps"),
        ("diarization_backend", "guess"),
        ("channels", "9"),
        ("channels", "0"),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(InvalidMessage, match=name):
        choices_from_query([(name, value)])


@given(*(st.none() | st.integers(1, 100) for _ in range(3)))
def test_any_counts_are_consistent_or_refused(exact, least, most):
    choices = SessionChoices(num_speakers=exact, min_speakers=least, max_speakers=most)
    consistent = (least or 1) <= (exact or least or 1) <= (exact or most or 100) <= (most or 100)
    try:
        counts = choices.session_options("s", SessionOptions("")).speaker_counts
    except InvalidMessage:
        assert not consistent or (least or 1) > (most or 100)
    else:
        assert counts == SpeakerCounts(exact, least, most)
        assert consistent
