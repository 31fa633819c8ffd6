import base64
import json
import random
from pathlib import Path

import pytest
from fakes.realtime_talk import RealtimeTalk, final, nothing, partial

from serve_app.errors import (
    InferenceError,
    InvalidAudio,
    PayloadTooLarge,
    QueueFull,
    SottoError,
)
from serve_app.events import (
    EndReason,
    SessionEnded,
    SessionError,
    SoundWarning,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.dialect import Audio, Flush, Load, Open, RawAudio, Reconfigure, Reply, Totals
from serve_app.protocols.openai import realtime
from serve_app.protocols.openai.errors import ModelNotFound
from serve_app.protocols.openai.realtime import RealtimeDialect
from serve_app.protocols.openai.realtime_items import MAX_ITEMS, Items
from serve_app.protocols.openai.realtime_session import LOGPROBS

GOLDEN = Path(__file__).parents[2] / "golden" / "openai_realtime.json"
MANUAL = {
    "type": "session.update",
    "session": {"type": "transcription", "audio": {"input": {"turn_detection": None}}},
}


def update(**fields):
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": fields}}}


MANUAL = update(turn_detection=None)


def talk(**options):
    return RealtimeTalk(RealtimeDialect("abc", expires_at=1_700_000_000, **options))


def manual(**options):
    spoken = talk(**options)
    spoken.say(MANUAL)
    return spoken


def kinds(frames):
    return [frame["type"].removeprefix("conversation.item.input_audio_transcription.") for frame in frames]


def transcripts(frames):
    return [frame["transcript"] for frame in frames if "transcript" in frame]


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


GA = {
    "type": "session.update",
    "session": {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": {"type": "near_field"},
                "transcription": {
                    "model": "gpt-4o-transcribe",
                    "language": "pt",
                    "prompt": "Consulta",
                    "keywords": ["dipirona"],
                    "delay": "low",
                },
                "turn_detection": {
                    "type": "server_vad",
                    "threshold": 0.6,
                    "prefix_padding_ms": 200,
                    "silence_duration_ms": 400,
                    "create_response": False,
                },
            }
        },
        "include": [LOGPROBS],
    },
}
BETA = {
    "type": "transcription_session.update",
    "session": {
        "input_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "whisper-1", "language": "pt"},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
        "include": [LOGPROBS],
    },
}


def scenes():
    return {"ga": scene(talk(), GA), "beta": scene(talk(beta=True), BETA)}


@pytest.fixture(autouse=True)
def audio_opens_at_once(monkeypatch, request):
    """But for the tests of what is held."""
    if "held" not in request.node.name:
        monkeypatch.setattr("serve_app.protocols.openai.realtime.MAX_HELD_MS", 0)


def _append(num_samples):
    audio = base64.b64encode(bytes(2 * num_samples)).decode()
    return json.dumps({"type": "input_audio_buffer.append", "audio": audio})


def _update(**fields):
    return json.dumps({"type": "session.update", "session": {"type": "transcription", **fields}})


def test_audio_ahead_of_the_settings_is_held_for_them():
    """Some clients send their sound while their first settings are still on the way."""
    dialect = RealtimeDialect("abc")
    assert dialect.receive(_append(2_400)) == []
    assert dialect.receive(_append(2_400)) == []
    reply, opening, audio = dialect.receive(_update(audio={"input": {"turn_detection": None}}))
    assert isinstance(reply, Reply)
    assert isinstance(opening, Open)
    assert opening.choices.vad_enabled is False
    assert audio == Audio(bytes(9_600))
    dialect.opened("s")
    assert dialect.receive(_append(240)) == [Audio(bytes(480))]


def test_held_audio_waits_a_second_at_most_and_a_commit_ends_the_wait():
    dialect = RealtimeDialect("abc")
    for _ in range(9):
        assert dialect.receive(_append(2_400)) == []
    assert isinstance(dialect.receive(_append(2_400))[0], Open)
    committed = RealtimeDialect("def")
    committed.receive(_append(4_800))
    commands = committed.receive(json.dumps({"type": "input_audio_buffer.commit"}))
    assert [type(command) for command in commands[:3]] == [Open, Audio, Flush]


def test_held_audio_that_is_cleared_is_gone():
    dialect = RealtimeDialect("abc")
    dialect.receive(_append(2_400))
    (reply,) = dialect.receive(json.dumps({"type": "input_audio_buffer.clear"}))
    assert "cleared" in reply.frames[0]
    assert [type(command) for command in dialect.receive(_update())] == [Reply]


def test_conversations_are_the_golden_ones():
    assert scenes() == json.loads(GOLDEN.read_text())


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
        ),
        RawAudio("pcm16", 24_000),
        resume="",
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"format": {"type": "audio/pcm"}}, RawAudio("pcm16", 24_000)),
        ({"format": {"type": "audio/pcm", "rate": 16_000}}, RawAudio("pcm16", 16_000)),
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


def test_audio_is_taken_in_pieces_and_whole():
    spoken = talk()
    spoken.audio(3.0)
    pieces = [command for command in spoken.commands if isinstance(command, Audio)]
    assert max(len(piece.data) for piece in pieces) == realtime.MAX_PIECE_BYTES
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


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "param"),
    [
        (update(format={"type": "audio/opus"}), "session.audio.input.format.type"),
        (update(format={"type": "audio/pcm", "rate": 4_000}), "session.audio.input.format.rate"),
        (
            update(turn_detection={"type": "server_vad", "threshold": 7}),
            "session.audio.input.turn_detection.threshold",
        ),
        (update(turn_detection={"type": "psychic_vad"}), "session.audio.input.turn_detection.type"),
        (update(transcription={"prompt": "x" * 4_001}), "session.audio.input.transcription.prompt"),
        (update(transcription={"language": "klingon"}), "language"),
        (update(transcription={"keywords": ["x" * 100] * 20}), "keywords"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "session.type"),
        ({"type": "session.update", "session": []}, "session"),
        ({"type": "input_audio_buffer.append"}, "audio"),
        ({"type": "input_audio_buffer.append", "audio": "no base64!"}, "audio"),
        ({"type": "input_audio_buffer.append", "audio": 5}, "audio"),
        ({"type": "response.create"}, "type"),
        ({"event_id": "x"}, None),
        ("[1, 2", None),
        ("[" * 100_000, None),
        (b"\x00\x01", None),
    ],
)
def test_what_cannot_be_understood_is_an_error_event(event, param):
    spoken = talk()
    (frame,) = spoken.say(event)
    assert (frame["type"], frame["error"]["type"]) == ("error", "invalid_request_error")
    assert frame["error"]["param"] == param
    assert spoken.commands == []


def test_a_refused_update_changes_nothing():
    spoken = talk()
    spoken.say(update(format={"type": "audio/pcmu"}, transcription={"language": "klingon"}))
    spoken.audio(0.1)
    assert spoken.commands[0].audio == RawAudio("pcm16", 24_000)


def test_an_unknown_model_is_refused():
    def refuse(name):
        raise ModelNotFound(f"no {name}", param="session.audio.input.transcription.model")

    spoken = talk(check_model=refuse)
    (frame,) = spoken.say(update(transcription={"model": "large-v9"}))
    assert (frame["error"]["code"], frame["error"]["message"]) == ("model_not_found", "no large-v9")
    (frame,) = spoken.say(update(transcription={"language": "pt"}))
    assert frame["type"] == "session.updated"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"turn_detection": None}, "turn_detection"),
        ({"format": {"type": "audio/pcmu"}}, "format"),
        ({"transcription": {"prompt": "late"}}, "transcription.prompt"),
        ({"transcription": {"keywords": ["late"]}}, "transcription.keywords"),
    ],
)
def test_what_cannot_change_any_more_is_refused(fields, param):
    spoken = talk()
    spoken.audio(0.1)
    (frame,) = spoken.say(update(**fields))
    assert frame["error"]["param"] == f"session.audio.input.{param}"


def test_the_language_may_change_later():
    spoken = talk()
    spoken.audio(0.1)
    (frame,) = spoken.say(update(transcription={"language": "pt"}, format={"type": "audio/pcm"}))
    assert frame["type"] == "session.updated"
    assert isinstance(spoken.commands[-1], Reconfigure)
    assert spoken.commands[-1].choices.language == "pt"


def test_events_over_their_limits(monkeypatch):
    dialect = RealtimeDialect("abc")
    append = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(300)).decode()})
    monkeypatch.setattr(realtime, "MAX_AUDIO_BYTES", 299)
    with pytest.raises(PayloadTooLarge, match="300 bytes"):
        dialect.receive(append)
    monkeypatch.setattr(realtime, "MAX_EVENT_CHARS", 100)
    with pytest.raises(PayloadTooLarge, match="characters"):
        dialect.receive(append)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (QueueFull("busy"), "server_error", "queue_full"),
        (InferenceError("failed"), "server_error", "inference_error"),
        (InvalidAudio("odd"), "invalid_request_error", "invalid_audio"),
    ],
)
def test_errors_of_the_shell(error, kind, code):
    (frame,) = RealtimeDialect("abc").refuse(error)
    assert json.loads(frame)["error"] == {
        "type": kind,
        "code": code,
        "message": str(error),
        "param": None,
        "event_id": None,
    }


def test_nothing_else_is_said():
    dialect = RealtimeDialect("abc")
    assert dialect.heartbeat(100.0) == []
    assert dialect.status(Load("high", 500, 8.0, False)) == []
    farewell = dialect.farewell(1001, Totals())
    assert (farewell.frames, farewell.close_code) == ((), 1001)


def test_items_know_their_stretch():
    items = Items("x")
    first, _ = items.begin(0)
    first.ended_sample = 16_000
    second, _ = items.begin(16_000)
    assert items.owner(0, 16_000) is first
    assert items.owner(15_990, 20_000) is second
    assert items.open_item is second
    assert items.take_over_at(15_000) == []
    assert items.take_over_at(15_990) == [first]


# -- hostile input --------------------------------------------------------------------------------

SEEDS = [
    json.dumps(event).encode()
    for event in (
        GA,
        BETA,
        MANUAL,
        update(turn_detection={"type": "semantic_vad", "eagerness": "low"}),
        {"type": "input_audio_buffer.append", "audio": "AAECAwQFBgcICQ==", "event_id": "e"},
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.clear"},
    )
]


def mutated(rng):
    frame = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(0, 6)):
        at = rng.randrange(len(frame) + 1)
        match rng.randrange(4):
            case 0:
                frame[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del frame[at : at + rng.randint(1, 20)]
            case 2:
                other = rng.choice(SEEDS)
                start = rng.randrange(len(other))
                frame[at:at] = other[start : start + rng.randint(1, 30)]
            case _:
                frame[at:at] = rng.choice([b"null", b"[]", b"-1", b"1e999", b'"', b"\\ud800", b"{}"])
    return bytes(frame).decode("utf-8", errors=rng.choice(["replace", "surrogateescape", "ignore"]))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_frames_are_served_or_refused(seed):
    rng = random.Random(seed)
    refused = served = 0
    answers = set()
    for _ in range(250):
        dialect = RealtimeDialect("abc")
        for _ in range(100):
            try:
                commands = dialect.receive(mutated(rng))
            except SottoError as error:
                refused += 1
                answers.update(type(frame) for frame in dialect.refuse(error))
            else:
                served += 1
                if any(isinstance(command, Open) for command in commands):
                    dialect.opened("s1")
    assert answers == {str}
    assert refused > 1_000
    assert served > 1_000
