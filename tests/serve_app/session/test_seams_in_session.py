"""Utterances that are cut for their length, wherever the cut falls: every word once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.session_driver import Driver
from fakes.talk import Say, speak
from serve_app.core.events import Final
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.vad.options import EndpointingOptions


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    lengths_ms=st.lists(st.integers(80, 900), min_size=8, max_size=25),
    pause_ms=st.sampled_from([0, 20, 60, 200]),
    max_utterance_ms=st.sampled_from([2_000, 3_000, 5_000]),
)
def test_every_word_is_said_once(lengths_ms: list[int], pause_ms: int, max_utterance_ms: int) -> None:
    said = [Say(number, ms=ms, pause_ms=pause_ms) for number, ms in enumerate(lengths_ms)]
    endpointing = EndpointingOptions(max_utterance_ms=max_utterance_ms)
    driver = Driver(Session(SessionOptions("s", language="en", endpointing=endpointing)))
    driver.run(speak(said))
    finals = [event for event in driver.events if isinstance(event, Final)]
    heard = " ".join(final.text for final in finals if final.text)
    assert heard == " ".join(f"w{word.number}" for word in said)
    assert [w.word.strip() for final in finals for w in final.words] == heard.split()
