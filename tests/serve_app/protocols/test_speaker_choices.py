"""What an upload chooses about speakers against what the server does."""

from __future__ import annotations

import pytest

from serve_app.core.errors import InvalidMessage, SpeakersUnavailable
from serve_app.protocols.native.transcribe import UploadChoices
from serve_app.protocols.speaker_choices import with_speakers
from serve_app.service.contract import RecordingOptions
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode

OFF, VOICE, CHANNEL = SpeakerMode.OFF, SpeakerMode.VOICE, SpeakerMode.CHANNEL


@pytest.mark.parametrize(
    ("diarize", "backend", "server", "of_server", "expected"),
    [
        (None, None, OFF, "pyannote", OFF),
        (None, None, VOICE, "pyannote", VOICE),
        (None, None, CHANNEL, "channel", CHANNEL),
        (True, None, OFF, "pyannote", VOICE),
        (True, None, OFF, "channel", CHANNEL),
        (False, "channel", VOICE, "pyannote", OFF),
        (None, "channel", OFF, "pyannote", OFF),
        (None, "channel", VOICE, "pyannote", CHANNEL),
        (True, "channel", OFF, "pyannote", CHANNEL),
        (True, "diart", CHANNEL, "channel", VOICE),
        (True, "diart", OFF, "pyannote", VOICE),
        (True, "sortformer", OFF, "sortformer", VOICE),
        (False, "sortformer", OFF, "pyannote", OFF),
    ],
)
def test_the_client_says_whether_and_how_else_the_server_does(diarize, backend, server, of_server, expected):
    options = RecordingOptions(speakers=server)
    chosen = with_speakers(options, diarize, UploadChoices(diarization_backend=backend), of_server)
    assert chosen.speakers is expected


@pytest.mark.parametrize(("backend", "of_server"), [("sortformer", "pyannote"), ("diart", "sortformer")])
def test_a_backend_that_does_not_run_is_refused_by_name(backend, of_server):
    with pytest.raises(SpeakersUnavailable, match=f"with {of_server}, not with"):
        with_speakers(RecordingOptions(), True, UploadChoices(diarization_backend=backend), of_server)


@pytest.mark.parametrize(
    ("choices", "server", "expected"),
    [
        ({}, SpeakerCounts(least=2, most=4), SpeakerCounts(least=2, most=4)),
        ({"num_speakers": 6}, SpeakerCounts(most=4), SpeakerCounts(exact=6, most=4)),
        ({"max_speakers": 8}, SpeakerCounts(least=2, most=4), SpeakerCounts(least=2, most=8)),
        ({"min_speakers": 5}, SpeakerCounts(most=4), None),
        ({"min_speakers": 5, "max_speakers": 4}, SpeakerCounts(), None),
        ({"num_speakers": 5, "max_speakers": 4}, SpeakerCounts(), None),
    ],
)
def test_numbers_of_speakers_are_laid_over_the_servers(choices, server, expected):
    options = RecordingOptions(speakers=VOICE, speaker_counts=server)
    if expected is None:
        with pytest.raises(InvalidMessage, match="speakers"):
            with_speakers(options, True, UploadChoices(**choices), "pyannote")
    else:
        assert with_speakers(options, True, UploadChoices(**choices), "pyannote").speaker_counts == expected
