"""What an upload chooses about speakers against what the server does."""

from __future__ import annotations

import pytest

from serve_app.errors import InvalidMessage
from serve_app.protocols.speaker_choices import with_speakers
from serve_app.protocols.transcribe import UploadChoices
from serve_app.service import RecordingOptions
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode

OFF, VOICE, CHANNEL = SpeakerMode.OFF, SpeakerMode.VOICE, SpeakerMode.CHANNEL


@pytest.mark.parametrize(
    ("diarize", "backend", "server", "usual", "expected"),
    [
        (None, None, OFF, VOICE, OFF),
        (None, None, VOICE, VOICE, VOICE),
        (None, None, CHANNEL, CHANNEL, CHANNEL),
        (True, None, OFF, VOICE, VOICE),
        (True, None, OFF, CHANNEL, CHANNEL),
        (False, "channel", VOICE, VOICE, OFF),
        (None, "channel", OFF, VOICE, OFF),
        (None, "channel", VOICE, VOICE, CHANNEL),
        (True, "channel", OFF, VOICE, CHANNEL),
        (True, "diart", CHANNEL, CHANNEL, VOICE),
    ],
)
def test_the_client_says_whether_and_how_else_the_server_does(diarize, backend, server, usual, expected):
    options = RecordingOptions(speakers=server)
    chosen = with_speakers(options, diarize, UploadChoices(diarization_backend=backend), usual)
    assert chosen.speakers is expected


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
            with_speakers(options, True, UploadChoices(**choices), VOICE)
    else:
        assert with_speakers(options, True, UploadChoices(**choices), VOICE).speaker_counts == expected
