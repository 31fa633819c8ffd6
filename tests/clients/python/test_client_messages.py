import msgspec
import pytest
from msgspec import UNSET

from fakes.messages import TIMING, ended, word
from fakes.speech_server import final_message, partial_message
from sotto_client.messages import (
    ErrorMessage,
    FinalTranscript,
    Heartbeat,
    OtherMessage,
    PartialTranscript,
    SpeakerRevision,
    VadEvent,
    parse_message,
)

REVISION = {
    "type": "speaker_revision",
    "session_id": "s",
    "segment_id": "seg-1",
    "speaker": "SPEAKER_01",
    "words": ["SPEAKER_01"],
    "start_ms": 0.0,
    "end_ms": 1200.0,
    "resume_from_samples": 19_200,
    "ticket": "newer",
}


def test_final() -> None:
    final = parse_message(final_message("hello", 1200.0))
    assert isinstance(final, FinalTranscript)
    assert (final.text, final.end_ms, final.endpoint_ms) == ("hello", 1200.0, 1700.0)
    assert final.words == (word("hello", 0.1, 0.4, 0.8),)
    assert final.timing.server_total_ms == 12.5


def test_a_final_of_the_first_protocol_has_no_additions() -> None:
    fields = final_message("hello", 1200.0)
    for name in ("language", "start_ms", "end_ms", "endpoint_ms", "words", "timing"):
        del fields[name]
    final = parse_message(fields)
    assert isinstance(final, FinalTranscript)
    assert (final.endpoint_ms, final.words, final.language) == (UNSET, (), "")
    assert (final.speaker, final.ticket, final.doubted, final.timing) == (None, "", "", TIMING)


def test_partial() -> None:
    partial = parse_message(partial_message("hel", 300.0))
    assert isinstance(partial, PartialTranscript)
    assert (partial.stable_chars, partial.end_ms) == (3, 300.0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"type": "vad_event", "session_id": "s", "state": "speech_end", "t_ms": 12},
            VadEvent(session_id="s", state="speech_end", t_ms=12.0),
        ),
        (
            {
                "type": "session_ended",
                "session_id": "s",
                "reason": "new",
                "total_audio_ms": 1,
                "total_segments": 0,
            },
            ended("new", 1.0, 0),
        ),
        (
            {"type": "error", "code": "QUEUE_FULL", "message": "20/20"},
            ErrorMessage(code="QUEUE_FULL", message="20/20", session_id=None, retryable=False),
        ),
        ({"type": "heartbeat", "t_ms": 5, "of_a_newer_server": {}}, Heartbeat(t_ms=5.0)),
        ({"type": "ping"}, OtherMessage("ping", {"type": "ping"})),
        ({}, OtherMessage("", {})),
    ],
)
def test_small_messages(fields: dict[str, object], expected: object) -> None:
    assert parse_message(fields) == expected


def test_a_message_without_its_required_fields_is_an_error() -> None:
    with pytest.raises(ValueError, match="state"):
        parse_message({"type": "vad_event"})


def test_speakers_of_a_final_and_their_revision() -> None:
    fields = final_message("hello", 1200.0)
    unknown = parse_message(fields | {"speaker": None})
    assert isinstance(unknown, FinalTranscript)
    assert (unknown.speaker, unknown.words[0].speaker) == (None, None)
    fields["words"][0]["speaker"] = "SPEAKER_02"
    final = parse_message(fields | {"speaker": "SPEAKER_02"})
    assert isinstance(final, FinalTranscript)
    assert (final.speaker, final.words[0].speaker) == ("SPEAKER_02", "SPEAKER_02")
    revised = parse_message(REVISION)
    assert isinstance(revised, SpeakerRevision)
    assert msgspec.to_builtins(revised) == REVISION | {"words": ("SPEAKER_01",)}
    assert revised.applied_to(unknown).words[0].speaker == "SPEAKER_01"
    assert revised.applied_to(final).speaker == "SPEAKER_01"


def test_a_revision_of_words_that_the_server_has_forgotten_names_the_whole_alone() -> None:
    final = parse_message(final_message("hello", 1200.0))
    revised = parse_message(REVISION | {"words": None})
    assert isinstance(final, FinalTranscript)
    assert isinstance(revised, SpeakerRevision)
    known = revised.applied_to(final)
    assert (known.speaker, known.words) == ("SPEAKER_01", final.words)
