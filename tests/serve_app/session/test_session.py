"""The session core: however audio is chunked and answers are delayed, the words are the words."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.session_driver import Driver
from fakes.talk import Say, decode, speak
from serve_app.core.events import (
    EndReason,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionError,
    SpeechEnded,
    SpeechHeard,
    SpeechStarted,
)
from serve_app.core.samples import Pcm16
from serve_app.session.effects import Purpose
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.vad.options import EndpointingOptions

OPTIONS = SessionOptions("s", language="en", partial_interval_ms=200)
DIALOGUE = [
    Say(1), Say(2), Say(3, pause_ms=700),
    Say(4), Say(5, pause_ms=300), Say(6, pause_ms=900),
    Say(7, ms=500), Say(8, pause_ms=800),
]  # fmt: skip


def finals(events: list[Event]) -> list[Final]:
    return [replace(event, timing=None) for event in events if isinstance(event, Final)]  # type: ignore[arg-type]


def said(events: list[Event]) -> list[str]:
    return [word for final in finals(events) for word in final.text.split()]


def run(audio: Pcm16, options: SessionOptions = OPTIONS, **how: object) -> Driver:
    driver = Driver(Session(options), how.pop("rng", None))  # type: ignore[arg-type]
    driver.run(audio, **how)  # type: ignore[arg-type]
    return driver


def words(*numbers: int) -> list[str]:
    return [f"w{number}" for number in numbers]


def test_every_word_once_in_utterances_cut_at_silences() -> None:
    driver = run(speak(DIALOGUE))
    assert [final.text for final in finals(driver.events)] == ["w1 w2 w3", "w4 w5 w6", "w7 w8"]
    assert [type(event) for event in driver.events if not isinstance(event, Partial)] == [
        SpeechStarted, SpeechEnded, Final, SpeechStarted, SpeechEnded, Final,
        SpeechStarted, SpeechEnded, Final, SessionEnded,
    ]  # fmt: skip
    ended = driver.events[-1]
    assert ended == SessionEnded(EndReason.COMPLETED, len(speak(DIALOGUE)), 3)


def test_the_probability_of_speech_is_told_to_sessions_that_ask() -> None:
    plain, asked = (run(speak(DIALOGUE), replace(OPTIONS, speech_probability=one)) for one in (False, True))
    heard = [event for event in asked.events if isinstance(event, SpeechHeard)]
    assert [event for event in asked.events if event not in heard] == plain.events
    assert {event.probability for event in heard} >= {0.0, 1.0}
    assert max(event.at_sample for event in heard) == len(speak(DIALOGUE))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=12), st.integers(0, 10_000), st.booleans())
def test_chunking_delays_and_speculation_change_no_final(
    chunks: list[int], seed: int, speculate: bool
) -> None:
    expected = finals(run(speak(DIALOGUE)).events)
    driver = run(speak(DIALOGUE), rng=random.Random(seed), chunks=chunks, speculate=speculate)
    assert finals(driver.events) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(64, 8_000), min_size=1, max_size=8), st.integers(0, 1000))
def test_speech_events_do_not_depend_on_chunking(chunks: list[int], seed: int) -> None:
    def marks(events: list[Event]) -> list[Event]:
        return [event for event in events if isinstance(event, SpeechStarted | SpeechEnded)]

    assert marks(run(speak(DIALOGUE), chunks=chunks, rng=random.Random(seed)).events) == marks(
        run(speak(DIALOGUE)).events
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2), st.lists(st.integers(1, 9_000), min_size=1, max_size=6), st.sampled_from([None, "en"])
)
def test_resuming_at_any_final_gives_the_same_rest(
    index: int, chunks: list[int], language: str | None
) -> None:
    audio = speak(DIALOGUE)
    options = replace(OPTIONS, language=language)
    whole = Driver(Session(options))
    whole.run(audio)
    checkpoint = whole.checkpoints[index]
    resumed = Driver(Session(options, checkpoint))
    resumed.run(audio[checkpoint.sample :], chunks)
    assert finals(resumed.events) == finals(whole.events)[index + 1 :]


LONG = [Say(number, ms=280, pause_ms=40) for number in range(1, 61)]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.integers(2_000, 9_000), st.lists(st.integers(1, 20_000), min_size=1, max_size=5), st.integers(0, 99)
)
def test_long_speech_is_cut_without_losing_or_doubling_a_word(
    max_utterance_ms: int, chunks: list[int], seed: int
) -> None:
    options = replace(OPTIONS, endpointing=EndpointingOptions(max_utterance_ms=max_utterance_ms))
    driver = run(speak(LONG), options, chunks=chunks, rng=random.Random(seed))
    assert said(driver.events) == words(*range(1, 61))
    assert len(finals(driver.events)) > 1


def test_resume_after_a_cut_keeps_the_seam() -> None:
    options = replace(OPTIONS, endpointing=EndpointingOptions(max_utterance_ms=4_000))
    audio = speak(LONG)
    whole = Driver(Session(options))
    whole.run(audio)
    for index, checkpoint in enumerate(whole.checkpoints[:-1]):
        resumed = Driver(Session(options, checkpoint))
        resumed.run(audio[checkpoint.sample :], [777])
        assert finals(resumed.events) == finals(whole.events)[index + 1 :]


def test_vad_off_finals_come_on_flush_end_and_length_only() -> None:
    options = replace(OPTIONS, endpointing=EndpointingOptions(enabled=False, max_utterance_ms=5_000))
    driver = Driver(Session(options))
    audio = speak(DIALOGUE)
    driver.session.push(audio[: 16 * 1500])
    driver.turn()
    driver.session.flush()
    driver.turn()
    assert [final.text for final in finals(driver.events)] == ["w1 w2 w3"]
    driver.run(audio)
    assert said(driver.events) == words(*range(1, 9))
    assert not [event for event in driver.events if isinstance(event, SpeechStarted | SpeechEnded)]


@pytest.mark.parametrize("at_ms", [600, 870, 1000, 1201, 1333])
def test_flush_closes_the_utterance_at_its_sample(at_ms: int) -> None:
    driver = Driver(Session(OPTIONS))
    audio = speak([Say(1, ms=1000, pause_ms=2000)])
    driver.session.push(audio[: at_ms * 16])
    driver.session.flush()
    driver.turn(answer_all=True)
    assert [final.end_sample for final in finals(driver.events)] == [at_ms * 16]
    assert finals(driver.events)[0].text == "w1"


def test_flush_in_silence_says_nothing_and_changes_nothing() -> None:
    audio = speak(DIALOGUE)
    driver = Driver(Session(OPTIONS))
    driver.session.push(audio[:5_000])
    driver.session.flush()
    driver.session.flush()
    driver.turn()
    assert finals(driver.events) == []
    driver.run(audio)
    assert finals(driver.events) == finals(run(audio).events)


def test_a_speculative_final_is_the_final() -> None:
    driver = run(speak(DIALOGUE))
    purposes = [request.purpose for request in driver.requests if request.purpose is not Purpose.INTERIM]
    # Each utterance pauses once at its end; the second one has an inner pause of 300 ms besides.
    assert purposes.count(Purpose.FINAL) == 0
    assert purposes.count(Purpose.SPECULATIVE) == 4
    plain = run(speak(DIALOGUE), speculate=False)
    assert finals(plain.events) == finals(driver.events)


def test_partials_keep_their_stable_prefix_and_cover_what_they_say() -> None:
    driver = run(speak(LONG), chunks=[320])
    partials = [event for event in driver.events if isinstance(event, Partial)]
    assert len(partials) > 20
    for one, other in zip(partials, partials[1:], strict=False):
        if one.utterance_id == other.utterance_id:
            assert other.text[: one.stable_chars] == one.text[: one.stable_chars]
            assert other.stable_chars >= one.stable_chars
            assert other.end_sample > one.end_sample


def test_an_interim_is_not_asked_for_without_new_speech() -> None:
    driver = run(speak([Say(1, ms=900, pause_ms=3000)]), chunks=[320], speculate=False)
    interims = [request for request in driver.requests if request.purpose is Purpose.INTERIM]
    assert all(request.end_sample <= (500 + 900) * 16 + 2 * 512 for request in interims)
    assert 1 <= len(interims) <= 5


def test_a_failed_final_says_so_and_the_rest_goes_on() -> None:
    driver = Driver(Session(OPTIONS))
    driver.session.push(speak(DIALOGUE))
    driver.session.end()
    driver.waiting = []
    while not driver.session.ended:
        effects, request = driver.session.poll_voice()
        driver.apply(effects)
        if request is not None:
            driver.apply(driver.session.on_voice(driver.detector.detect([request])[0]))
        for number, job in enumerate(list(driver.waiting)):
            driver.waiting.remove(job)
            if "w5" in decode(job).text:
                driver.apply(driver.session.on_decode_failed(job.key, f"broken {number}"))
            else:
                driver.apply(driver.session.on_decoded(job.key, decode(job), 1.0))
    assert said(driver.events) == words(1, 2, 3, 7, 8)
    errors = [event for event in driver.events if isinstance(event, SessionError)]
    assert [error.code for error in errors] == ["INFERENCE_ERROR"]


def test_language_is_detected_until_it_is_sure_and_then_kept() -> None:
    options = replace(OPTIONS, language=None)
    driver = run(speak(DIALOGUE * 3), options)
    asked = [request.job.language for request in driver.requests if request.purpose is not Purpose.INTERIM]
    assert asked[0] is None
    assert asked[-1] == "en"
    assert asked == sorted(asked, key=lambda language: language is not None)


def test_cancel_drops_what_is_not_delivered() -> None:
    session = Session(OPTIONS)
    driver = Driver(session)
    session.push(speak(DIALOGUE))
    driver.apply(session.cancel(EndReason.CANCELLED))
    driver.turn()
    assert [type(event) for event in driver.events] == [SessionEnded]
    assert session.cancel(EndReason.ERROR) == []


def test_memory_holds_only_what_can_still_be_asked_for() -> None:
    session = Session(OPTIONS)
    driver = Driver(session)
    for _ in range(200):
        session.push(np.zeros(16_000, np.int16))
        driver.turn()
    assert session.held_samples < 16_000
