"""Golden files: every frame that each live dialect writes of one talk, and how it opens and ends."""

import json
from pathlib import Path

import pytest

from fakes.on_the_wire import assert_same_json
from fakes.spoken_events import DIALOGUE, TALK
from serve_app.core.errors import InvalidMessage, MaxSessionsReached
from serve_app.protocols.browser.first_frame import FirstFrameDialect
from serve_app.protocols.browser.interim_final import InterimFinalDialect
from serve_app.protocols.browser.whisper_live_kit import WhisperLiveKitDialect
from serve_app.protocols.dialect import Load, Open, Totals
from serve_app.protocols.native.dialect import NativeDialect
from serve_app.protocols.native.opus_stream import OpusStreamDialect

GOLDEN = Path(__file__).parents[2] / "golden" / "live"
BUSY = Load("high", 440, 4.2, True)
NEW_WORDS = [("only_new_words", "true")]

DIALECTS = {
    "stt_new_words": (NativeDialect, NEW_WORDS, '{"type":"start_session"}'),
    "stream": (OpusStreamDialect, [], b"OggS"),
    "stream_new_words": (OpusStreamDialect, NEW_WORDS, b"OggS"),
    "interim_final": (InterimFinalDialect, [], '{"event":"start","language":"auto"}'),
    "interim_final_new_words": (InterimFinalDialect, NEW_WORDS, '{"event":"start"}'),
    "asr_full": (WhisperLiveKitDialect, [("language", "en")], b"\x1a\x45\xdf\xa3"),
    "asr_diff": (WhisperLiveKitDialect, [("mode", "diff")], b"\x1a\x45\xdf\xa3"),
    "ws_updates": (FirstFrameDialect, [("language", "en")], b"\x1a\x45\xdf\xa3"),
}


SPEAKERS = {
    "stt_speakers": (NativeDialect, [], '{"type":"start_session"}'),
    "stream_speakers": (OpusStreamDialect, [], b"OggS"),
    "interim_final_speakers": (InterimFinalDialect, [], '{"event":"start"}'),
    "asr_full_speakers": (WhisperLiveKitDialect, [], b"\x1a\x45\xdf\xa3"),
    "asr_diff_speakers": (WhisperLiveKitDialect, [("mode", "diff")], b"\x1a\x45\xdf\xa3"),
    "ws_updates_speakers": (FirstFrameDialect, [], b"\x1a\x45\xdf\xa3"),
}


def decoded(frames):
    return [json.loads(frame) for frame in frames]


def conversation(make, parameters, first_frame, talk=TALK):
    """All that one dialect writes, by the step that made it write."""
    dialect = make(parameters)
    said = {"accepted": decoded(dialect.accepted())}
    commands = [*dialect.open_at_once()]
    commands += dialect.receive(first_frame)
    assert [type(command) for command in commands][0] is Open
    if talk is DIALOGUE:
        dialect.names_speakers()
    dialect.opened("session-1234")
    dialect.anchored(1_700_000_000.25)
    said["events"] = [
        {"event": type(event).__name__, "frames": decoded(dialect.send(event))} for event in talk
    ]
    said["refusal"] = decoded(dialect.refuse(InvalidMessage("malformed JSON")))
    said["status"] = decoded(dialect.status(BUSY))
    farewell = dialect.farewell(1000, Totals(14_000.0, 2))
    said["farewell"] = {"frames": decoded(farewell.frames), "close": farewell.close_code}
    return said


@pytest.mark.parametrize("name", DIALECTS)
def test_every_frame_is_as_written(name):
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert_same_json(conversation(*DIALECTS[name]), golden)


@pytest.mark.parametrize("name", SPEAKERS)
def test_every_frame_with_speakers_is_as_written(name):
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    assert_same_json(conversation(*SPEAKERS[name], DIALOGUE), golden)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_full_service_can_be_told_before_a_session(name):
    make, parameters, _ = DIALECTS[name]
    dialect = make(parameters)
    [frame] = dialect.refuse(MaxSessionsReached("Maximum sessions reached: 8/8"))
    assert "Maximum sessions reached: 8/8" in frame


def lines_of_a_client_that_only_appends(name):
    """WhisperLiveKit's own test client prunes in front and appends, and never cuts what it has."""
    said = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    lines = []
    for step in said["events"]:
        for frame in step["frames"]:
            del lines[: frame.get("lines_pruned", 0)]
            lines += frame.get("lines", []) + frame.get("new_lines", [])
            assert len(lines) == frame.get("n_lines", len(lines))
    return lines


def test_diffs_hold_for_a_client_that_only_appends():
    lines = lines_of_a_client_that_only_appends("asr_diff")
    assert [line["text"] for line in lines] == ["Hello world. Good day.", "", "Sí, doctor."]


def test_diffs_with_speakers_hold_for_a_client_that_only_appends():
    lines = lines_of_a_client_that_only_appends("asr_diff_speakers")
    assert [(line["speaker"], line["text"]) for line in lines] == [
        (1, "Hello world."),
        (2, "Good day."),
        (2, "- Sí, doctor."),
    ]


def test_full_updates_end_with_what_is_known_last():
    for name in ("asr_full_speakers", "ws_updates_speakers"):
        said = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
        updates = [frame for step in said["events"] for frame in step["frames"]]
        assert [(line["speaker"], line["text"]) for line in updates[-1]["lines"]] == [
            (2, "Hello world. Good"),
            (1, "day."),
            (2, "- Sí, doctor."),
        ]


def test_a_revision_of_native_words_has_one_for_each_that_was_sent():
    said = json.loads((GOLDEN / "stt_speakers.json").read_text(encoding="utf-8"))
    messages = [frame for step in said["events"] for frame in step["frames"]]
    finals = {m["segment_id"]: m for m in messages if m["type"] == "final_transcript"}
    revisions = [m for m in messages if m["type"] == "speaker_revision"]
    assert [m["speaker"] for m in finals["seg-0001"]["words"]] == [None, None]
    assert [revision["words"] for revision in revisions] == [
        ["SPEAKER_02", "SPEAKER_02"],
        ["SPEAKER_01", "SPEAKER_01", "SPEAKER_02", "SPEAKER_02"],
        ["SPEAKER_02", "SPEAKER_02", "SPEAKER_02", "SPEAKER_01"],
        None,
    ]
    for revision in revisions[:-1]:
        assert len(revision["words"]) == len(finals[revision["segment_id"]]["words"])
