"""Tickets at the service: whose session it is, on whichever replica, and what becomes of the dead socket."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fakes.talk import Say, speak
from fakes.talking_server import talking_speech
from fakes.told_events import ToldEvents
from serve_app.core.errors import InvalidTicket, MaxSessionsReached, SessionExists
from serve_app.core.events import (
    Acknowledged,
    EndReason,
    Event,
    Final,
    SessionEnded,
    SessionStarted,
)
from serve_app.service.live import Live
from serve_app.service.speech import AdmissionLimits
from serve_app.session.options import SessionOptions

OPTIONS = SessionOptions("a", language="en")
AUDIO = speak([Say(1), Say(2, pause_ms=700), Say(3), Say(4, pause_ms=900), Say(5, pause_ms=12_000), Say(6)])


async def hear(live: Live, first_sample: int = 0) -> list[Event]:
    told = ToldEvents(live)
    await live.push(AUDIO[first_sample:])
    live.end()
    return await told.until_ended()


def finals(events: list[Event]) -> list[Final]:
    return [replace(event, timing=None, ticket="") for event in events if isinstance(event, Final)]  # type: ignore[arg-type]


def tickets(events: list[Event]) -> list[str]:
    return [event.ticket for event in events if isinstance(event, SessionStarted | Final | Acknowledged)]


async def test_any_replica_with_the_key_goes_on_from_any_ticket() -> None:
    async with talking_speech() as first, talking_speech() as second:
        whole = await hear(first.open_session(OPTIONS, ""))
        assert len(tickets(whole)) == 6
        for ticket in tickets(whole):
            live = second.open_session(replace(OPTIONS, session_id=""), ticket)
            assert live.session_id == "a"
            start = live.session.checkpoint.sample
            events = await hear(live, start)
            assert isinstance(events[0], SessionStarted)
            assert (events[0].resumed, events[0].resume_from_samples) == (True, start)
            assert finals(events) == [final for final in finals(whole) if final.resume_sample > start]
            assert events[-1] == whole[-1]


async def test_a_ticket_takes_the_session_from_a_dead_socket_that_nobody_noticed() -> None:
    async with talking_speech(limits=AdmissionLimits(max_sessions=1)) as service:
        dead = service.open_session(OPTIONS)
        told = ToldEvents(dead)
        (started,) = told
        assert isinstance(started, SessionStarted)
        with pytest.raises(SessionExists):
            service.open_session(OPTIONS, "")
        live = service.open_session(OPTIONS, started.ticket)
        assert told[1:] == [SessionEnded(EndReason.CANCELLED, 0, 0)]
        service.session_closed("a", dead)  # its socket is noticed at last
        assert [final.text for final in finals(await hear(live))] == ["w1 w2", "w3 w4", "w5", "w6"]
        assert service.status().active_sessions == 1
        service.session_closed("a", live)
        assert service.status().active_sessions == 0


async def test_a_refused_ticket_leaves_the_session_where_it_is() -> None:
    async with (
        talking_speech() as service,
        talking_speech(b"other") as stranger,
        talking_speech(now_s=lambda: 1e11) as later,
    ):
        mine = service.open_session(OPTIONS)
        (started,) = told = ToldEvents(mine)
        assert isinstance(started, SessionStarted)
        for ticket, options in (
            ("nonsense", OPTIONS),
            (started.ticket, replace(OPTIONS, prompt="other")),
            (started.ticket, replace(OPTIONS, session_id="b")),
        ):
            with pytest.raises(InvalidTicket):
                service.open_session(options, ticket)
        for elsewhere in (stranger, later):
            with pytest.raises(InvalidTicket):
                elsewhere.open_session(OPTIONS, started.ticket)
        await mine.push(AUDIO)
        mine.end()
        assert len(finals(await told.until_ended())) == 4


async def test_a_full_replica_takes_no_other_session() -> None:
    async with talking_speech() as first, talking_speech(limits=AdmissionLimits(max_sessions=1)) as full:
        (started,) = ToldEvents(first.open_session(OPTIONS))
        assert isinstance(started, SessionStarted)
        full.open_session(replace(OPTIONS, session_id="b"))
        with pytest.raises(MaxSessionsReached):
            full.open_session(OPTIONS, started.ticket)


async def test_only_who_starts_with_a_ticket_hears_acknowledgements() -> None:
    async with talking_speech() as service:
        plain = await hear(service.open_session(OPTIONS))
        service.session_closed("a")
        asked = await hear(service.open_session(OPTIONS, ""))
    assert not [event for event in plain if isinstance(event, Acknowledged)]
    assert len([event for event in asked if isinstance(event, Acknowledged)]) == 1
    assert finals(plain) == finals(asked)
