"""Formatting is for the reader: text and words of a final change alike, the session's own memory does not."""

from __future__ import annotations

from dataclasses import replace

from fakes.session_driver import Driver
from fakes.talk import Say, decode, speak
from serve_app.core.events import Final
from serve_app.core.jobs import Transcript
from serve_app.formatting import FormattingOptions
from serve_app.session.effects import DecodeRequest
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session

SAID = {" w1": " twenty", " w2": " three", " w3": " drops"}


def spelled(request: DecodeRequest) -> Transcript:
    heard = decode(replace(request, job=replace(request.job, word_timestamps=True)))
    words = tuple(replace(word, word=SAID[word.word]) for word in heard.words)
    return replace(heard, text="".join(word.word for word in words).strip(), words=words)


def finals(options: SessionOptions) -> list[Final]:
    driver = Driver(Session(options), decode=spelled)
    driver.run(speak([Say(1), Say(2), Say(3, pause_ms=900)]))
    return [event for event in driver.events if isinstance(event, Final)]


def test_numbers_and_capitals_where_they_are_asked_for() -> None:
    (final,) = finals(
        SessionOptions("s", language="en", formatting=FormattingOptions(casing=True, numerals=True))
    )
    assert final.text == "23 drops"
    assert [word.word for word in final.words] == [" 23", " drops"]
    assert final.words[0].end_s < final.words[1].start_s


def test_text_is_as_recognised_by_default() -> None:
    (final,) = finals(SessionOptions("s", language="en"))
    assert final.text == "twenty three drops"
    assert len(final.words) == 3
