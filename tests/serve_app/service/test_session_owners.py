"""A session belongs to the key that opened it: no other goes on with it, takes its id, or ends it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.talking_server import talking_speech
from fakes.told_events import ToldEvents
from serve_app.access.caller import ANYBODY, Caller
from serve_app.core.errors import InvalidTicket, SessionExists
from serve_app.core.events import SessionStarted
from serve_app.service.live import Live
from serve_app.session.options import SessionOptions

A, B = Caller("a1"), Caller("b2")
OPTIONS = SessionOptions("s", language="en")


def ticket_of(live: Live) -> str:
    (started,) = ToldEvents(live)
    assert isinstance(started, SessionStarted)
    return started.ticket


async def test_another_key_cannot_go_on_with_a_session() -> None:
    async with talking_speech() as service, talking_speech() as elsewhere:
        mine = service.open_session(OPTIONS, "", A)
        ticket = ticket_of(mine)
        for replica in (service, elsewhere):
            for stranger in (B, ANYBODY):
                for options in (OPTIONS, replace(OPTIONS, session_id="")):
                    with pytest.raises(InvalidTicket, match="another key"):
                        replica.open_session(options, ticket, stranger)
        assert not mine.session.ended
        assert elsewhere.open_session(OPTIONS, ticket, A).key_id == "a1"


async def test_a_ticket_of_before_there_were_keys_is_of_no_key() -> None:
    async with talking_speech() as service:
        ticket = ticket_of(service.open_session(OPTIONS, "", ANYBODY))
        service.session_closed("s")
        with pytest.raises(InvalidTicket):
            service.open_session(OPTIONS, ticket, A)
        assert service.open_session(OPTIONS, ticket, ANYBODY).session_id == "s"


async def test_an_id_in_use_by_another_key_is_never_taken_over() -> None:
    async with talking_speech() as service:
        mine = service.open_session(OPTIONS, "", A)
        ticket = ticket_of(mine)
        service.session_closed("s", mine)
        theirs = service.open_session(OPTIONS, "", B)
        for given_ticket in ("", None, ticket):
            with pytest.raises(SessionExists):
                service.open_session(OPTIONS, given_ticket, A)
        assert not theirs.session.ended
        assert service.status().active_sessions == 1
        service.session_closed("s", theirs)
        assert service.open_session(OPTIONS, ticket, A).session_id == "s"


@dataclass
class Held:
    """A session that one key holds, and the ticket that it was told."""

    key: Caller
    live: Live
    ticket: str


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "resume", "close"]),
            st.sampled_from([A, B, ANYBODY]),
            st.sampled_from(["x", "y"]),
            st.integers(0, 9),
        ),
        max_size=20,
    )
)
async def test_whatever_keys_do_only_their_own_sessions_change(
    steps: list[tuple[str, Caller, str, int]],
) -> None:
    async with talking_speech() as service:
        held: list[Held] = []
        for action, key, name, index in steps:
            others = [one for one in held if one.key != key and not one.live.session.ended]
            options = replace(OPTIONS, session_id=name)
            try:
                if action == "open":
                    live = service.open_session(options, "", key)
                    held.append(Held(key, live, ticket_of(live)))
                elif action == "resume" and held:
                    old = held[index % len(held)]
                    options = replace(OPTIONS, session_id="")
                    live = service.open_session(options, old.ticket, key)
                    assert old.key == key, "a ticket of another key was taken"
                    held.append(Held(key, live, ticket_of(live)))
                elif action == "close":
                    mine = [one for one in held if one.key == key]
                    if mine:
                        live = mine[index % len(mine)].live
                        service.session_closed(live.session_id, live)
            except (InvalidTicket, SessionExists):
                pass
            assert not any(one.live.session.ended for one in others)
