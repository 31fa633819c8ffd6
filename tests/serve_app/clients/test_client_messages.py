import pytest
from fakes.speech_server import final_message, partial_message

from serve_app.clients.messages import (
    ErrorMessage,
    FinalTranscript,
    Heartbeat,
    OtherMessage,
    PartialTranscript,
    SpokenWord,
    VadEvent,
    parse_message,
)


def test_final() -> None:
    final = parse_message(final_message("hello", 1200.0))
    assert isinstance(final, FinalTranscript)
    assert (final.text, final.end_ms, final.endpoint_ms) == ("hello", 1200.0, 1700.0)
    assert final.words == (SpokenWord("hello", 0.1, 0.4, 0.8),)
    assert final.timing["server_total_ms"] == 12.5


def test_a_final_of_the_first_protocol_has_no_additions() -> None:
    fields = final_message("hello", 1200.0)
    for name in ("language", "start_ms", "end_ms", "endpoint_ms", "words", "timing"):
        del fields[name]
    final = parse_message(fields)
    assert isinstance(final, FinalTranscript)
    assert (final.endpoint_ms, final.words, final.language) == (None, (), "")


def test_partial() -> None:
    partial = parse_message(partial_message("hel", 300.0))
    assert isinstance(partial, PartialTranscript)
    assert (partial.stable_chars, partial.end_ms) == (3, 300.0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "vad_event", "state": "speech_end", "t_ms": 12}, VadEvent("speech_end", 12.0)),
        (
            {"type": "error", "code": "QUEUE_FULL", "message": "20/20"},
            ErrorMessage("QUEUE_FULL", "20/20", False),
        ),
        ({"type": "heartbeat", "t_ms": 5}, Heartbeat(5.0)),
        ({"type": "ping"}, OtherMessage("ping", {"type": "ping"})),
        ({}, OtherMessage("", {})),
    ],
)
def test_small_messages(fields: dict[str, object], expected: object) -> None:
    assert parse_message(fields) == expected


def test_a_message_without_its_required_fields_is_an_error() -> None:
    with pytest.raises(KeyError):
        parse_message({"type": "vad_event"})
