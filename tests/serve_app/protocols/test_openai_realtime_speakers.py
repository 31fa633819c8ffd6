"""Who spoke, in OpenAI's realtime shapes: segments that follow their text."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.realtime_talk import final, kinds, talk, update
from fakes.spoken_events import revision, spoken_by
from serve_app.core.events import (
    EndReason,
    SessionEnded,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.protocols.speaker_runs import MAX_WAITING

GOLDEN = Path(__file__).parents[2] / "golden" / "openai_realtime.json"
DIARIZED = update(transcription={"model": "gpt-4o-transcribe-diarize"})


def turn(number, start_s, *speakers):
    """A final of as many words as `speakers`, of a turn of its own."""
    text = " ".join(f"w{number}{index}" for index in range(len(speakers)))
    said = final(text, start_s, start_s + 1, number)
    said = spoken_by(said, next((one for one in speakers if one is not None), None), *speakers)
    onset, ended = SpeechStarted(said.start_sample), SpeechEnded(said.end_sample)
    return said, (onset, ended, said)


def diarized_scene(spoken):
    """Two speakers in a turn, one who is known later, one whom nobody knows."""
    spoken.say(DIARIZED)
    spoken.audio(0.5)
    _, first = turn(1, 1.0, 0, 0, 1)
    later, second = turn(2, 3.0, None, None)
    _, third = turn(3, 5.0, None)
    spoken.happen(*first, *second, *third, revision(later, 1, 1, 1), SessionEnded(EndReason.COMPLETED, 1, 3))
    return spoken.heard


@pytest.fixture(autouse=True)
def audio_opens_at_once(monkeypatch):
    monkeypatch.setattr("serve_app.protocols.openai.realtime.MAX_HELD_MS", 0)


def test_a_conversation_of_two_is_the_golden_one():
    assert diarized_scene(talk()) == json.loads(GOLDEN.read_text())["diarized"]


def segments(frames):
    return [(frame["speaker"], frame["text"]) for frame in frames if "speaker" in frame]


def test_a_segment_is_said_once_its_speaker_is_known():
    heard = diarized_scene(talk())
    assert segments(heard) == [("A", "w10 w11"), ("B", "w12"), ("B", "w20 w21"), ("unknown", "w30")]
    items = {f["item_id"]: f["transcript"] for f in heard if "transcript" in f}
    assert items.keys() == {frame["item_id"] for frame in heard if "speaker" in frame}
    assert len({frame["id"] for frame in heard if "speaker" in frame}) == 4


def test_text_does_not_wait_for_its_speakers():
    spoken = talk()
    spoken.say(DIARIZED)
    spoken.audio(0.5)
    _, events = turn(1, 1.0, None)
    assert kinds(spoken.happen(*events))[-1] == "completed"


def test_segments_wait_for_so_many_finals_only():
    spoken = talk()
    spoken.say(DIARIZED)
    spoken.audio(0.5)
    turns = [turn(number, 2.0 * number, None)[1] for number in range(1, MAX_WAITING + 2)]
    heard = [segments(spoken.happen(*events)) for events in turns]
    assert heard[:-1] == [[]] * MAX_WAITING
    assert heard[-1] == [("unknown", "w10")]


def test_other_models_name_nobody():
    spoken = talk()
    spoken.audio(0.5)
    said, events = turn(1, 1.0, 0, 1)
    assert segments(spoken.happen(*events, revision(said, 1, 1, 1))) == []
    assert spoken.commands[0].choices.diarization is False


def test_a_turn_is_over_though_its_audio_may_be_wanted_again():
    spoken = talk()
    spoken.say(DIARIZED)
    spoken.audio(0.5)
    said, (onset, ended, _) = turn(1, 1.0, None)
    again = replace(said, resume_sample=0, next_sample=said.resume_sample)
    assert kinds(spoken.happen(onset, ended, again))[-1] == "completed"


def test_speakers_cannot_be_asked_for_once_audio_has_come():
    spoken = talk()
    spoken.audio(0.5)
    (refused,) = spoken.say(DIARIZED)
    assert refused["error"]["param"] == "session.audio.input.transcription.model"
