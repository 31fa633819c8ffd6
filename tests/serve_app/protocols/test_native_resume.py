"""The fields of the native protocol that a session is resumed with."""

import json
from pathlib import Path

import pytest

from serve_app.core.errors import InvalidMessage, InvalidTicket
from serve_app.core.events import (
    Acknowledged,
    Final,
    SessionStarted,
    Timing,
)
from serve_app.protocols.native import messages as native
from serve_app.protocols.native.dialect import NativeEvents
from serve_app.protocols.native.messages import StartSession, decode_command
from serve_app.session.ticket import MAX_TICKET_CHARS

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "native" / "resume.json").read_text())
FINAL = Final("1", 0, "Olá.", (), 0.9, -0.1, "pt", 0.9, 0, 28_000, 28_800, Timing(), ticket="AVopaque")
UNTICKETED = Final("1", 0, "Olá.", (), 0.9, -0.1, "pt", 0.9, 0, 28_000, 28_800, Timing())


def encoded(event):
    return json.loads(*NativeEvents("unique-session-id").frames(event))


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("session_started", SessionStarted("unique-session-id", False, 0, "AVopaque")),
        ("resumed", SessionStarted("unique-session-id", True, 28_800, "AVopaque")),
        ("ticket", Acknowledged(176_800, "AVopaque")),
    ],
)
def test_messages_are_the_golden_ones(name, event):
    assert encoded(event) == GOLDEN[name]


def test_a_final_has_its_ticket_beside_what_it_had_before():
    assert encoded(FINAL) == encoded(UNTICKETED) | GOLDEN["final_transcript"]


def test_a_refused_ticket_is_an_error_of_its_own():
    message = json.loads(native.encode_error(InvalidTicket("the ticket expired 5 s ago"), None))
    assert message == GOLDEN["error"]


def test_a_start_may_carry_a_ticket_or_an_empty_one():
    assert decode_command(json.dumps(GOLDEN["start"])) == StartSession(resume="AVopaque")
    assert decode_command('{"type":"start_session","resume":""}') == StartSession(resume="")
    assert decode_command('{"type":"start_session"}') == StartSession(resume=None)


@pytest.mark.parametrize("resume", ["7", "true", '["x"]', f'"{"A" * (MAX_TICKET_CHARS + 1)}"'])
def test_what_cannot_be_a_ticket_is_refused(resume):
    with pytest.raises(InvalidMessage, match="resume"):
        decode_command(f'{{"type":"start_session","resume":{resume}}}')
