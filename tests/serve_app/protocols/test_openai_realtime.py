import json
from pathlib import Path

import pytest

from fakes.on_the_wire import assert_same_json
from fakes.realtime_talk import (
    BETA,
    GA,
    final,
    kinds,
    manual,
    nothing,
    partial,
    talk,
    transcripts,
    update,
)
from serve_app.core.errors import QueueFull
from serve_app.core.events import (
    EndReason,
    Flushed,
    ModelStatus,
    SessionEnded,
    SessionError,
    SoundWarning,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.dialect import Audio, Flush, Open, RawAudio
from serve_app.protocols.openai import realtime_audio
from serve_app.protocols.openai.realtime import RealtimeDialect
from serve_app.protocols.openai.realtime_items import MAX_ITEMS

GOLDEN = Path(__file__).parents[2] / "golden" / "openai_realtime.json"


def deltas(frames):
    return "".join(frame["delta"] for frame in frames if "delta" in frame)


def scene(spoken, settings):
    """One turn found by the detector, one failed, one without words, an error."""
    spoken.say(settings)
    spoken.audio(0.5)
    spoken.happen(
        SpeechStarted(16_000),
        partial("Olá mun", 3, 0.8, 1.4),
        partial("Olá, mundo", 3, 0.8, 1.8),
        SpeechEnded(32_000),
        final("Olá mundo.", 0.8, 2.2),
        SpeechStarted(48_000),
        SpeechEnded(56_000),
        SessionError("INFERENCE_ERROR", "model failed", retryable=True),
        SpeechStarted(64_000),
        SpeechEnded(72_000),
        nothing(4.8),
    )
    spoken.say({"type": "input_audio_buffer.clear", "event_id": "e1"})
    spoken.say({"type": "response.create", "event_id": "e2"})
    return spoken.heard


def scenes():
    return {
        "ga": scene(talk(), GA),
        "beta": scene(talk(beta=True), BETA),
    }


@pytest.fixture(autouse=True)
def audio_opens_at_once(monkeypatch, request):
    """But for the tests of what is held."""
    if "held" not in request.node.name:
        monkeypatch.setattr("serve_app.protocols.openai.realtime.MAX_HELD_MS", 0)


def test_conversations_are_the_golden_ones():
    golden = json.loads(GOLDEN.read_text())
    assert_same_json(scenes(), {name: golden[name] for name in ("ga", "beta")})


def test_every_event_has_an_id_of_its_own():
    ids = [frame["event_id"] for frame in scenes()["ga"]]
    assert len(set(ids)) == len(ids)


def test_the_session_opens_with_what_was_chosen():
    spoken = talk()
    spoken.say(GA)
    spoken.audio(0.1)
    assert spoken.commands[0] == Open(
        SessionChoices(
            language="pt",
            sample_rate=24_000,
            encoding="pcm16",
            vad_enabled=True,
            vad_threshold=0.6,
            pre_roll_ms=200,
            min_silence_ms=400,
            word_timestamps=True,
            partial_results=True,
            partial_interval_ms=200,
            prompt="Consulta",
            hotwords="dipirona",
            diarization=False,
        ),
        RawAudio("pcm16", 24_000),
        resume="",
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"format": {"type": "audio/pcm"}}, RawAudio("pcm16", 24_000)),
        ({"format": {"type": "audio/pcm", "rate": 16_000}}, RawAudio("pcm16", 16_000)),
        ({"format": {"type": "audio/pcm", "rate": 96_000}}, RawAudio("pcm16", 96_000)),
        ({"format": {"type": "audio/pcm", "rate": 44_100.0}}, RawAudio("pcm16", 44_100)),
        ({"format": {"type": "audio/pcmu"}}, RawAudio("mulaw", 8_000)),
        ({"format": {"type": "audio/pcma", "rate": 8_000}}, RawAudio("alaw", 8_000)),
    ],
)
def test_formats(fields, expected):
    spoken = talk()
    spoken.say(update(**fields))
    spoken.audio(0.1)
    assert spoken.commands[0].audio == expected


@pytest.mark.parametrize(
    ("turn_detection", "expected"),
    [
        ({"type": "server_vad"}, (True, 0.5, 300, 500)),
        ({"type": "semantic_vad", "eagerness": "high"}, (True, None, 300, 400)),
        ({"type": "semantic_vad"}, (True, None, 300, 800)),
        (None, (False, None, None, None)),
    ],
)
def test_turn_detection_becomes_endpointing(turn_detection, expected):
    spoken = talk()
    spoken.say(update(turn_detection=turn_detection))
    spoken.audio(0.1)
    choices = spoken.commands[0].choices
    found = (choices.vad_enabled, choices.vad_threshold, choices.pre_roll_ms, choices.min_silence_ms)
    assert found == expected


def test_an_update_keeps_what_it_does_not_name():
    spoken = talk()
    spoken.say(update(transcription={"language": "pt", "prompt": "Consulta", "model": "gpt-4o-transcribe"}))
    (updated,) = spoken.say(update(transcription={"prompt": None}))
    assert updated["session"]["audio"]["input"]["transcription"] == {
        "model": "gpt-4o-transcribe",
        "language": "pt",
        "prompt": "",
    }


def test_the_betas_fields_also_come_without_a_session_around_them():
    spoken = talk(beta=True)
    (updated,) = spoken.say({"type": "transcription_session.update", "input_audio_format": "g711_alaw"})
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_alaw"


def test_several_languages_are_detected_among_and_one_is_fixed():
    for languages, language in (["pt"], "pt"), (["pt", "en"], "auto"), ([], None):
        spoken = talk()
        spoken.say(update(transcription={"languages": languages}))
        spoken.audio(0.1)
        assert spoken.commands[0].choices.language == language
        assert spoken.commands[0].choices.languages == (("pt", "en") if language == "auto" else None)


def test_audio_is_taken_in_pieces_and_whole():
    spoken = talk()
    spoken.audio(3.0)
    pieces = [command for command in spoken.commands if isinstance(command, Audio)]
    assert max(len(piece.data) for piece in pieces) == realtime_audio.MAX_PIECE_BYTES
    assert spoken.num_audio_bytes == 3 * 48_000


def test_a_refused_opening_is_tried_again_with_the_next_audio():
    dialect = RealtimeDialect("abc")
    append = json.dumps({"type": "input_audio_buffer.append", "audio": "AAAA"})
    assert isinstance(dialect.receive(append)[0], Open)
    dialect.refuse(QueueFull("busy"))
    assert isinstance(dialect.receive(append)[0], Open)
    dialect.opened("s1")
    assert not any(isinstance(command, Open) for command in dialect.receive(append))


# -- turns ----------------------------------------------------------------------------------------


def test_deltas_only_grow_and_end_where_the_transcript_ends():
    spoken = talk()
    frames = spoken.happen(
        SpeechStarted(0),
        partial("one two", 0, 0, 1),
        partial("one two three", 7, 0, 2),
        partial("one two tree four", 13, 0, 3),
        SpeechEnded(64_000),
        final("one two tree four five", 0, 4),
    )
    assert [frame["delta"] for frame in frames if "delta" in frame] == ["one two", " tree", " four five"]
    assert transcripts(frames) == [deltas(frames)]


def test_a_final_that_disagrees_adds_no_delta():
    spoken = talk()
    frames = spoken.happen(
        SpeechStarted(0), partial("one two", 7, 0, 1), SpeechEnded(32_000), final("won two", 0, 2)
    )
    assert deltas(frames) == "one two"
    assert transcripts(frames) == ["won two"]


def test_a_long_turn_of_several_utterances_is_one_item():
    spoken = talk()
    frames = spoken.happen(
        SpeechStarted(0),
        final("one two", 0, 29, number=1),
        partial("three four", 5, 28.8, 31, number=2),
        SpeechEnded(16_000 * 33),
        final("three four", 28.8, 33.2, number=2),
    )
    assert deltas(frames) == "one two three four"
    assert transcripts(frames) == ["one two three four"]
    assert frames[-1]["usage"] == {"type": "duration", "seconds": 33.4}
    assert kinds(frames).count("completed") == 1


def test_finals_that_come_late_find_their_turns():
    spoken = talk()
    frames = spoken.happen(
        SpeechStarted(16_000),
        SpeechEnded(32_000),
        SpeechStarted(48_000),
        final("one", 0.8, 2.2, number=1),
        SpeechEnded(64_000),
        final("two", 2.8, 4.2, number=2),
    )
    started = [frame["item_id"] for frame in frames if frame["type"].endswith("speech_started")]
    completed = {frame["item_id"]: frame["transcript"] for frame in frames if "transcript" in frame}
    assert completed == dict(zip(started, ["one", "two"], strict=True))
    committed = [frame for frame in frames if frame["type"].endswith("committed")]
    assert [frame["previous_item_id"] for frame in committed] == [None, started[0]]


def test_a_turn_without_words_completes_empty():
    spoken = talk()
    spoken.happen(SpeechStarted(0), SpeechEnded(16_000))
    assert transcripts(spoken.happen(nothing(1.4))) == [""]
    spoken.happen(SpeechStarted(32_000), SpeechEnded(48_000), SpeechStarted(64_000), SpeechEnded(80_000))
    assert transcripts(spoken.happen(final("two", 3.8, 5.2, number=3))) == ["", "two"]


def test_a_turn_that_was_given_up_keeps_its_words():
    spoken = talk()
    spoken.happen(SpeechStarted(0), SpeechEnded(16_000))
    spoken.happen(SessionError("INFERENCE_ERROR", "model failed"))
    frames = spoken.happen(final("what was certain", 0, 1.2))
    assert kinds(frames)[0] == "input_audio_buffer.committed"
    assert transcripts(frames) == ["what was certain"]


def test_other_errors_are_error_events():
    spoken = talk()
    spoken.happen(SpeechStarted(0), SpeechEnded(16_000))
    (frame,) = spoken.happen(SessionError("QUEUE_CONGESTION", "busy", retryable=True))
    assert (frame["type"], frame["error"]["code"]) == ("error", "queue_congestion")


def test_the_end_completes_what_is_open():
    spoken = talk()
    spoken.happen(SpeechStarted(0), final("one", 0, 29), SessionError("INFERENCE_ERROR", "model failed"))
    frames = spoken.happen(SessionEnded(EndReason.COMPLETED, 0, 1))
    assert kinds(frames)[-1] == "completed"
    assert transcripts(frames) == ["one"]
    assert spoken.happen(SessionEnded(EndReason.COMPLETED, 0, 1)) == []


def test_what_was_cut_off_has_failed():
    spoken = talk()
    spoken.happen(SpeechStarted(0), SpeechEnded(16_000), SpeechStarted(32_000))
    (frame,) = spoken.happen(SessionEnded(EndReason.ERROR, 0, 0))
    assert (kinds([frame]), frame["error"]["code"]) == (["failed"], "session_ended")


def test_turns_that_nobody_answers_are_bounded():
    spoken = manual()
    for _ in range(MAX_ITEMS + 3):
        spoken.audio(0.2)
        spoken.say({"type": "input_audio_buffer.commit"})
    assert transcripts(spoken.heard) == [""] * 3


def test_sound_warnings_have_no_shape_here():
    assert talk().happen(SoundWarning("clipping", 0, 0.5)) == []


@pytest.mark.parametrize("stalled", [True, False])
def test_a_model_that_is_late_has_no_shape_here(stalled: bool) -> None:
    """Clients take an `error` for the end."""
    assert talk().happen(ModelStatus(stalled, 0, 5.0)) == []


# -- commits --------------------------------------------------------------------------------------


def test_without_detection_a_commit_ends_the_turn():
    spoken = manual()
    spoken.audio(2.0)
    frames = spoken.happen(partial("one two", 3, 0, 1.5))
    frames += spoken.say({"type": "input_audio_buffer.commit"})
    assert spoken.commands[-1] == Flush()
    spoken.audio(1.0)
    frames += spoken.happen(final("one two", 0, 1.9995), partial("three", 5, 1.9995, 2.6, number=2))
    ids = {frame["item_id"] for frame in frames if "item_id" in frame}
    assert kinds(frames) == [
        "delta",
        "input_audio_buffer.committed",
        "conversation.item.created",
        "conversation.item.added",
        "conversation.item.done",
        "delta",
        "completed",
        "delta",
    ]
    assert len(ids) == 2
    assert frames[-1]["item_id"] != frames[-2]["item_id"] == frames[0]["item_id"]


def test_a_commit_of_silence_completes_empty():
    spoken = manual()
    spoken.audio(1.0)
    spoken.say({"type": "input_audio_buffer.commit"})
    assert transcripts(spoken.happen(nothing(1.0))) == [""]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_commit_of_nothing_is_refused(seconds):
    spoken = manual()
    spoken.audio(seconds)
    (frame,) = spoken.say({"type": "input_audio_buffer.commit", "event_id": "mine"})
    assert frame["error"]["code"] == "input_audio_buffer_commit_empty"
    assert frame["error"]["event_id"] == "mine"


def test_with_detection_a_commit_is_a_flush():
    spoken = talk()
    spoken.audio(1.0)
    assert spoken.say({"type": "input_audio_buffer.commit"}) == []
    assert spoken.commands[-1] == Flush()
    (frame,) = spoken.say({"type": "input_audio_buffer.commit"})
    assert frame["error"]["code"] == "input_audio_buffer_commit_empty"


COMMITTED = [
    "input_audio_buffer.committed",
    "conversation.item.created",
    "conversation.item.added",
    "conversation.item.done",
]


def test_with_detection_a_commit_of_silence_completes_empty():
    spoken = talk()
    spoken.audio(1.0)
    assert spoken.say({"type": "input_audio_buffer.commit"}) == []
    frames = spoken.happen(Flushed(16_000))
    assert kinds(frames) == [*COMMITTED, "completed"]
    assert transcripts(frames) == [""]
    assert len({frame["item_id"] for frame in frames if "item_id" in frame}) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_with_detection_a_commit_of_nothing_is_refused(seconds):
    spoken = talk()
    spoken.audio(seconds)
    (frame,) = spoken.say({"type": "input_audio_buffer.commit", "event_id": "mine"})
    assert (frame["error"]["code"], frame["error"]["event_id"]) == ("input_audio_buffer_commit_empty", "mine")


def test_a_commit_in_the_middle_of_a_turn_is_answered_by_its_end():
    spoken = talk()
    spoken.audio(2.0)
    spoken.happen(SpeechStarted(8_000))
    spoken.say({"type": "input_audio_buffer.commit"})
    frames = spoken.happen(SpeechEnded(32_000), Flushed(32_000), final("one", 0.5, 2.0))
    assert kinds(frames) == ["input_audio_buffer.speech_stopped", *COMMITTED, "delta", "completed"]
    assert transcripts(frames) == ["one"]


def test_a_turn_that_ends_by_itself_takes_its_audio_out_of_the_buffer():
    spoken = talk()
    spoken.audio(2.0)
    spoken.happen(SpeechStarted(8_000), SpeechEnded(23_500), final("one", 0.5, 1.5))
    (frame,) = spoken.say({"type": "input_audio_buffer.commit"})
    assert frame["error"]["code"] == "input_audio_buffer_commit_empty"
    spoken.audio(0.2)
    assert spoken.say({"type": "input_audio_buffer.commit"}) == []
    assert transcripts(spoken.happen(Flushed(35_200))) == [""]


def test_the_end_answers_a_commit_too():
    spoken = talk()
    spoken.audio(1.0)
    spoken.say({"type": "input_audio_buffer.commit"})
    assert transcripts(spoken.happen(SessionEnded(EndReason.COMPLETED, 16_000, 0))) == [""]


def test_flushes_that_no_commit_asked_for_say_nothing():
    spoken = talk()
    spoken.audio(1.0)
    assert spoken.happen(Flushed(16_000)) == []
    spoken.audio(1.0)
    spoken.say({"type": "input_audio_buffer.clear"})
    assert spoken.happen(Flushed(32_000)) == []


def test_cleared_audio_is_not_answered():
    spoken = manual()
    spoken.audio(1.0)
    spoken.happen(partial("forget", 6, 0, 0.8))
    assert kinds(spoken.say({"type": "input_audio_buffer.clear"})) == ["input_audio_buffer.cleared"]
    assert spoken.happen(final("forget it", 0, 1.0)) == []
    spoken.audio(1.0)
    spoken.say({"type": "input_audio_buffer.commit"})
    assert transcripts(spoken.happen(final("this", 1.0, 2.0, number=2))) == ["this"]


def test_cleared_speech_is_not_answered():
    spoken = talk()
    spoken.audio(2.0)
    spoken.happen(SpeechStarted(0))
    spoken.say({"type": "input_audio_buffer.clear"})
    late = (SpeechStarted(28_000), SpeechEnded(32_000), final("two", 1.6, 2.0, number=2))
    assert spoken.happen(SpeechEnded(16_000), final("one", 0, 1.2), *late) == []
    assert kinds(spoken.happen(SpeechStarted(40_000))) == ["input_audio_buffer.speech_started"]
