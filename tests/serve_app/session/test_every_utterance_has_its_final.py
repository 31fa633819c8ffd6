"""What was shown is not taken back in silence: every partial of an utterance is followed by its final."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.session_driver import Driver
from fakes.talk import Say, decode, speak
from serve_app.asr.confidence import MAX_DOUBTED
from serve_app.core.events import Final, Partial, SessionError
from serve_app.core.jobs import DecodeFailure, LanguageHint, Transcript
from serve_app.session.effects import DecodeRequest, Purpose
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.vad.options import EndpointingOptions

SAID = [Say(1), Say(2, pause_ms=700), Say(3), Say(4, pause_ms=900), Say(5), Say(6), Say(7, pause_ms=900)]
OPTIONS = SessionOptions("s", language="en", partial_interval_ms=200)
OUTCOMES = ("text", "nothing", "no_speech", "no_words", "unintelligible", "loop", "failure")


def outcome_of(kind: str, request: DecodeRequest) -> Transcript | DecodeFailure:
    """How a final may turn out."""
    transcript = decode(request)
    match kind:
        case "failure":
            return DecodeFailure(request.key, "the model failed on this audio")
        case "nothing":
            return replace(transcript, text="", words=())
        case "no_speech" | "no_words":
            return replace(transcript, text="", words=(), rejected=kind)
        case "unintelligible" | "loop":
            return replace(transcript, doubted=kind, confidence=MAX_DOUBTED)
    return transcript


def run(options: SessionOptions, kinds: list[str], seed: int = 0, **more: Any) -> Driver:
    rng = random.Random(seed)

    def answer(request: DecodeRequest) -> Transcript | DecodeFailure:
        if request.purpose is Purpose.INTERIM:
            return decode(request)
        return outcome_of(kinds[request.start_sample // 16_000 % len(kinds)], request)

    driver = Driver(Session(options), rng, answer)
    driver.run(speak(SAID), **more)
    return driver


@settings(max_examples=80, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
    chunks=st.lists(st.integers(160, 12_000), min_size=1, max_size=6),
    enabled=st.booleans(),
    withhold=st.booleans(),
)
def test_every_partial_is_followed_by_its_final(
    kinds: list[str], seed: int, chunks: list[int], enabled: bool, withhold: bool
) -> None:
    endpointing = EndpointingOptions(enabled=enabled, max_utterance_ms=3_000)
    options = replace(OPTIONS, endpointing=endpointing, withhold_doubted=withhold)
    events = run(options, kinds, seed, chunks=chunks).events
    finals = [event for event in events if isinstance(event, Final)]
    assert len({final.utterance_id for final in finals}) == len(finals)
    closed: set[str] = set()
    for event in events:
        if isinstance(event, Final):
            closed.add(event.utterance_id)
        elif isinstance(event, Partial):
            assert event.utterance_id not in closed
    assert {event.utterance_id for event in events if isinstance(event, Partial)} <= closed


@pytest.mark.parametrize("kind", ["unintelligible", "loop", "nothing", "no_words", "no_speech", "failure"])
def test_the_best_text_there_is_goes_out_with_a_low_confidence(kind: str) -> None:
    driver = run(OPTIONS, [kind])
    finals = [event for event in driver.events if isinstance(event, Final)]
    assert [final.text for final in finals] == ["w1 w2", "w3 w4", "w5 w6 w7"]
    assert all(final.doubted and final.confidence <= MAX_DOUBTED for final in finals)
    assert any(isinstance(event, SessionError) for event in driver.events) == (kind == "failure")


def test_a_setting_keeps_it_back_and_says_so() -> None:
    driver = run(replace(OPTIONS, withhold_doubted=True, partials=False), ["unintelligible"])
    finals = [event for event in driver.events if isinstance(event, Final)]
    assert [(final.text, final.withheld) for final in finals] == [("", "unintelligible")] * 3


def test_without_a_detector_a_doubted_text_is_dropped() -> None:
    options = replace(OPTIONS, endpointing=EndpointingOptions(enabled=False), partials=False)
    events = run(options, ["unintelligible"]).events
    assert not [event for event in events if isinstance(event, Final)]


def test_doubted_text_is_no_evidence_of_a_language() -> None:
    driver = run(replace(OPTIONS, language=None), ["unintelligible"])
    assert driver.session.checkpoint.language_evidence == {}


def test_utterances_without_a_lock_hint_at_the_next_ones() -> None:
    options = replace(OPTIONS, language=None, language_lock_s=None, languages=("en", "de"))
    driver = run(options, ["text"])
    hints = [request.job.hint for request in driver.requests if request.purpose is not Purpose.INTERIM]
    assert hints[0] == LanguageHint(("en", "de"))
    assert 0 < hints[-1].seconds("en") < 10
    assert hints[-1].seconds("de") == 0


def test_one_language_of_a_list_is_fixed() -> None:
    driver = run(replace(OPTIONS, language=None, languages=("de",)), ["text"])
    assert {request.job.language for request in driver.requests} == {"de"}


def test_interims_of_an_utterance_keep_their_language() -> None:
    """Also where the final's is another, and where the model would hear another one meanwhile."""
    languages = iter(["en", "ms", "zh", "vi"] * 100)

    def answer(request: DecodeRequest) -> Transcript:
        transcript = decode(request, next(languages))
        if request.purpose is Purpose.INTERIM:
            return transcript
        return replace(transcript, language="de", text="auf deutsch", words=())

    driver = Driver(Session(replace(OPTIONS, language=None, language_lock_s=None)), None, answer)
    driver.run(speak(SAID))
    shown: dict[str, set[str]] = {}
    for event in driver.events:
        if isinstance(event, Partial):
            shown.setdefault(event.utterance_id, set()).add(event.language)
    assert shown
    assert all(len(languages_of_one) == 1 for languages_of_one in shown.values())


def test_an_interim_without_a_language_is_not_shown() -> None:
    def answer(request: DecodeRequest) -> Transcript:
        transcript = decode(request)
        if request.purpose is Purpose.INTERIM and len(request.job.audio) < 16_000:
            return replace(transcript, text="", words=(), language="")
        return transcript

    driver = Driver(Session(replace(OPTIONS, language=None)), None, answer)
    driver.run(speak(SAID), speculate=False)
    partials = [event for event in driver.events if isinstance(event, Partial)]
    assert partials
    assert all(partial.language == "en" for partial in partials)
