"""Audio ahead of the settings, what is refused, and frames of any kind."""

import base64
import json
import random

import pytest

from fakes.realtime_talk import (
    BETA,
    GA,
    MANUAL,
    talk,
    update,
)
from serve_app.core.errors import (
    InferenceError,
    InvalidAudio,
    PayloadTooLarge,
    QueueFull,
    SottoError,
)
from serve_app.protocols.dialect import Audio, Flush, Load, Open, RawAudio, Reconfigure, Reply, Totals
from serve_app.protocols.openai import realtime, realtime_audio
from serve_app.protocols.openai.errors import ModelNotFound
from serve_app.protocols.openai.realtime import RealtimeDialect
from serve_app.protocols.openai.realtime_items import Items


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
        (update(transcription={"keywords": ["x" * 100] * 100}), "keywords"),
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
    monkeypatch.setattr(realtime_audio, "MAX_AUDIO_BYTES", 299)
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
    assert not dialect.heartbeat(100.0)
    assert not dialect.status(Load("high", 500, 8.0, False))
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
