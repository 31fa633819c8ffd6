"""docs/extending.md: the code on it is what is run here, each part added by a folder and a line."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest

from fakes.asgi_socket import AsgiSocket
from fakes.fake_service import FakeService, FakeSettings
from fakes.installed import installed
from fakes.session_driver import Driver
from fakes.talk import Say, speak
from serve_app.assembly.recognisers import load_recogniser
from serve_app.assembly.speakers import load_diarizer, status_of
from serve_app.core.events import Final, Partial
from serve_app.core.jobs import DecodeJob, Role, Transcript
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.settings import load_settings
from serve_app.speakers.turns import SpeakerCounts, Turn
from serve_app.streaming.choice import POLICIES
from serve_app.streaming.policy import PolicyName
from serve_app.web.app import create_app
from serve_app.web.door_table import PROTOCOLS, Protocol

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
CODE = dict(re.findall(r"^```(?:python|toml)\n# (.+?)\n(.*?)^```$", PAGE, re.M | re.S))
ENTRY_POINTS = re.findall(r'^\[project\.entry-points\."(.+?)"\]\n(\w+) = "(.+?)"$', PAGE, re.M)


@pytest.fixture
def entry_points(tmp_path: Path) -> Iterator[None]:
    """Both packages of the page, as their pyproject.toml would install them."""
    with ExitStack() as packages:
        for group, name, value in ENTRY_POINTS:
            code, line = CODE[f"{name}/__init__.py"], f"{name} = {value}"
            packages.enter_context(installed(tmp_path / name, name, code, group=group, entry_point=line))
        yield


async def test_a_protocol_is_one_folder_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "doors.py").write_text(CODE["captions/doors.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    captions = importlib.import_module("captions.doors")
    added = eval(CODE["line of a door"], {"Protocol": Protocol, "captions": captions})
    app = create_app(FakeService(), FakeSettings(), protocols=(*PROTOCOLS, added))

    async with AsgiSocket(app, "/captions") as socket:
        socket.say(bytes(64_000))
        socket.say("end")
        heard = await socket.heard_until("done")
    assert {message["type"] for message in heard} == {"line", "done"}
    assert heard[-1]["num_lines"] == len(heard) - 1

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sotto") as client:
        assert "WS /captions" in (await client.get("/")).json()["endpoints"]
        document = (await client.get("/asyncapi.json")).json()
    channel = document["channels"]["captions"]
    assert channel["address"] == "/captions"
    assert channel["messages"].keys() == {"Captions.audio.captions", "Captions.line", "Captions.done"}
    schema = document["components"]["schemas"]["CaptionsLine"]
    assert schema["properties"].keys() == {"type", "text"}


@pytest.mark.usefixtures("entry_points")
async def test_an_engine_answers_hello() -> None:
    recogniser = load_recogniser(
        load_settings(environ={"STT_ENGINE": "hello"}), tuple(Role), shares_cores=True
    )
    answer = await recogniser.submit(DecodeJob(1, Role.FINAL, np.zeros(16_000, np.int16)))
    await recogniser.close()
    assert isinstance(answer, Transcript)
    assert (answer.text, answer.model) == ("hello", "hello-1")


def test_a_policy_shows_interims_in_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, type] = {}
    exec(CODE["whole.py"], names)
    monkeypatch.setitem(POLICIES, PolicyName.DUAL, names["WholeUtterance"])
    driver = Driver(Session(SessionOptions(session_id="s1", language="en")))
    events = driver.run(speak([Say(number) for number in range(5)] + [Say(5, pause_ms=2_000)]))
    interims = [event for event in events if isinstance(event, Partial)]
    assert interims
    assert all(event.stable_chars == 0 for event in interims)
    (final,) = [event for event in events if isinstance(event, Final)]
    assert final.text == "w0 w1 w2 w3 w4 w5"


@pytest.mark.usefixtures("entry_points")
def test_a_diarizer_listens_to_recordings() -> None:
    settings = load_settings(environ={"STT_DIARIZATION_BACKEND": "halves"})
    assert (status_of(settings).backend, status_of(settings).available) == ("halves", True)
    diarizer = load_diarizer(settings)
    found = diarizer.diarize(np.zeros(64_000, np.int16), SpeakerCounts(), lambda share: None, lambda: None)
    assert found.turns == (Turn(0.0, 2.0, 0), Turn(2.0, 4.0, 1))


def test_a_diarizer_that_is_not_installed_is_refused() -> None:
    with pytest.raises(ValueError, match="no diarizer of this name is installed, expected one of: channel"):
        load_settings(environ={"STT_DIARIZATION_BACKEND": "halves"})


def test_the_files_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`((?:serve_app|tests|docs)/[\w/.]+)`", PAGE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
