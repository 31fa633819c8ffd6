"""What `/ws/stt` and `/ws/stream` say of load: each change once, and nothing while there is none."""

from __future__ import annotations

import json

from serve_app.capacity.ladder import Rung
from serve_app.protocols.dialect import Load
from serve_app.protocols.native.dialect import NativeDialect
from serve_app.protocols.native.opus_stream import OpusStreamDialect
from sotto_client.messages import LoadStatus, parse_message


def load(rung: Rung) -> Load:
    return Load(rung.level, 300, 8.0, rung >= Rung.NO_INTERIMS, rung.name.lower())


def test_each_change_is_said_once() -> None:
    dialect = NativeDialect()
    assert not dialect.status(load(Rung.FULL))  # no session yet
    dialect.receive('{"type": "start_session", "session_id": "a"}')
    dialect.opened("a")
    said = []
    for rung in (Rung.NORMAL, Rung.INTERIMS_SLOWER, Rung.INTERIMS_SLOWER, Rung.NO_INTERIMS, Rung.NORMAL):
        said += [parse_message(json.loads(frame)) for frame in dialect.status(load(rung))]
    assert said == [
        LoadStatus(session_id="a", level="high", rung="interims_slower", interims_paused=False),
        LoadStatus(session_id="a", level="critical", rung="no_interims", interims_paused=True),
        LoadStatus(session_id="a", level="normal", rung="normal", interims_paused=False),
    ]


def test_a_browsers_recorder_is_told_too_beside_its_pings() -> None:
    dialect = OpusStreamDialect()
    said = [dialect.status(load(Rung.NO_INTERIMS))]
    dialect.open_at_once()
    dialect.opened("a")
    said += [dialect.status(load(rung)) for rung in (Rung.NO_INTERIMS, Rung.NO_INTERIMS, Rung.NORMAL)]
    told = [[json.loads(frame)["type"] for frame in frames] for frames in said]
    assert told == [["ping"], ["ping", "load_status"], ["ping"], ["ping", "load_status"]]
