"""Streaming policies inside a session: what was called stable stays, and nothing is lost or said twice."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.session_driver import Driver
from fakes.talk import Say, decode_like_a_model, speak
from serve_app.core.events import (
    Event,
    Final,
    Partial,
    SessionError,
)
from serve_app.core.jobs import AttentionRule, Role
from serve_app.session.effects import Purpose
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.streaming.policy import PolicyName, PolicyOptions

COMMITTING = (PolicyName.LOCAL_AGREEMENT, PolicyName.ALIGN_ATT)
LONG = [Say(n, ms=280, pause_ms=350 if n % 4 == 0 else 60) for n in range(40)]
"""One utterance of some 17 s; its pauses are too short to end it."""
SHORT = [Say(1), Say(2), Say(3, pause_ms=700), Say(4), Say(5, pause_ms=900), Say(6), Say(7, pause_ms=900)]


def options(name: PolicyName, trimming_s: float = 15.0) -> SessionOptions:
    policy = PolicyOptions(name, min_chunk_ms=200, trimming_s=trimming_s, attention=AttentionRule(35, 200))
    return SessionOptions("s", language="en", partial_interval_ms=200, policy=policy)


def run(
    session_options: SessionOptions, said: list[Say], seed: int = 0, chunks: list[int] | None = None
) -> Driver:
    rng = random.Random(seed)
    driver = Driver(Session(session_options), rng, partial(decode_like_a_model, rng=rng))
    driver.run(speak(said), chunks)
    return driver


def words_of(said: list[Say]) -> str:
    return " ".join(f"w{word.number}" for word in said)


def check_stable(events: list[Event], *, commits: bool) -> None:
    """Stable text is repeated literally; with a committing policy by the final too."""
    stable: dict[str, str] = {}
    for event in events:
        if isinstance(event, Partial):
            assert event.text.startswith(stable.get(event.utterance_id, ""))
            stable[event.utterance_id] = event.text[: event.stable_chars]
        elif isinstance(event, Final) and commits:
            assert event.text.startswith(stable.get(event.utterance_id, ""))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(PolicyName)),
    seed=st.integers(0, 2**32),
    chunks=st.lists(st.integers(160, 12_000), min_size=1, max_size=6),
    trimming_s=st.sampled_from([1.0, 3.0, 6.0, 15.0]),
)
def test_stable_text_is_never_retracted(
    name: PolicyName, seed: int, chunks: list[int], trimming_s: float
) -> None:
    for said in (LONG, SHORT):
        driver = run(options(name, trimming_s), said, seed, chunks)
        check_stable(driver.events, commits=name in COMMITTING)
        finals = [event for event in driver.events if isinstance(event, Final)]
        assert " ".join(final.text for final in finals) == words_of(said)


@pytest.mark.parametrize("name", COMMITTING)
def test_most_words_are_certain_long_before_the_final(name: PolicyName) -> None:
    events = run(options(name), LONG).events
    last = [event for event in events if isinstance(event, Partial)][-1]
    assert last.stable_chars > 0.8 * len(words_of(LONG))


@pytest.mark.parametrize("name", COMMITTING)
def test_a_long_utterance_gives_up_audio_and_keeps_its_words_and_times(name: PolicyName) -> None:
    driver = run(options(name, trimming_s=3.0), LONG)
    interims = [request for request in driver.requests if request.purpose is Purpose.INTERIM]
    assert max(len(request.job.audio) for request in interims) / 16_000 < 7
    assert len(driver.requests[-1].job.audio) / 16_000 < 7
    (final,) = [event for event in driver.events if isinstance(event, Final)]
    assert [word.word.strip() for word in final.words] == words_of(LONG).split()
    starts = [0.5 + sum(w.ms + w.pause_ms for w in LONG[:n]) / 1000 for n in range(len(LONG))]
    assert [word.start_s for word in final.words] == pytest.approx(starts, abs=0.02)


@pytest.mark.parametrize("name", COMMITTING)
def test_text_whose_audio_is_given_up_becomes_the_prompt(name: PolicyName) -> None:
    session_options = replace(options(name, trimming_s=3.0), prompt="Names follow.", hotwords="Sotto")
    driver = run(session_options, LONG)
    last = driver.requests[-1]
    assert last.purpose is not Purpose.INTERIM
    assert last.job.prompt.startswith("Names follow. w0 w1 w2 ")
    assert last.job.hotwords == "Sotto"
    assert last.job.prompt.split()[-1] != last.job.prefix.split()[0]


def test_committing_policies_use_the_final_model_and_attention_only_where_it_is_the_policy() -> None:
    for name in PolicyName:
        interims = [r for r in run(options(name), LONG).requests if r.purpose is Purpose.INTERIM]
        assert {r.job.model for r in interims} == {None if name is PolicyName.DUAL else Role.FINAL}
        assert {r.job.attention is not None for r in interims} == {name is PolicyName.ALIGN_ATT}
        assert any(r.job.prefix for r in interims) == (name is not PolicyName.DUAL)


def test_finals_never_carry_an_attention_rule() -> None:
    requests = run(options(PolicyName.ALIGN_ATT), LONG).requests
    assert all(r.job.attention is None for r in requests if r.purpose is not Purpose.INTERIM)


def test_certain_text_survives_a_final_that_a_guard_took_away() -> None:
    rng = random.Random(1)

    def decode(request):  # type: ignore[no-untyped-def]
        transcript = decode_like_a_model(request, rng)
        return transcript if request.purpose is Purpose.INTERIM else replace(transcript, text="", words=())

    driver = Driver(Session(options(PolicyName.ALIGN_ATT)), rng, decode)
    driver.run(speak(LONG))
    (final,) = [event for event in driver.events if isinstance(event, Final)]
    assert words_of(LONG).startswith(final.text)
    assert len(final.text) > 0.8 * len(words_of(LONG))


def test_certain_text_survives_a_final_that_failed() -> None:
    driver = Driver(Session(options(PolicyName.ALIGN_ATT)), random.Random(1))
    driver.decode = partial(decode_like_a_model, rng=random.Random(1))
    answer = driver.session.on_decoded

    def fail_finals(key, transcript, total_ms):  # type: ignore[no-untyped-def]
        request = next(r for r in driver.requests if r.key == key)
        if request.purpose is Purpose.INTERIM:
            return answer(key, transcript, total_ms)
        return driver.session.on_decode_failed(key, "broken")

    driver.session.on_decoded = fail_finals  # type: ignore[method-assign]
    driver.run(speak(LONG))
    assert any(isinstance(event, SessionError) for event in driver.events)
    (final,) = [event for event in driver.events if isinstance(event, Final)]
    assert len(final.text) > 0.8 * len(words_of(LONG))
    check_stable(driver.events, commits=True)


def test_context_of_earlier_utterances_is_in_view_where_it_is_asked_for() -> None:
    session_options = replace(options(PolicyName.DUAL), carry_context=True, prompt="Names follow.")
    finals = [r for r in run(session_options, SHORT).requests if r.purpose is not Purpose.INTERIM]
    assert finals[0].job.prompt == "Names follow."
    assert finals[-1].job.prompt == "Names follow. w1 w2 w3 w4 w5"
    plain = run(options(PolicyName.DUAL), SHORT).requests
    assert all(request.job.prompt == "" for request in plain)


def test_context_ends_with_a_loop() -> None:
    rng = random.Random(1)

    def decode(request):  # type: ignore[no-untyped-def]
        return replace(decode_like_a_model(request, rng), looped=request.purpose is not Purpose.INTERIM)

    driver = Driver(Session(replace(options(PolicyName.DUAL), carry_context=True)), rng, decode)
    driver.run(speak(SHORT))
    assert all(request.job.prompt == "" for request in driver.requests)


@pytest.mark.parametrize("name", list(PolicyName))
def test_what_was_shown_is_the_next_decodes_draft(name: PolicyName) -> None:
    """Less what the answer begins with anyway, and what lies before its audio."""
    driver = run(options(name, trimming_s=3.0), LONG)
    shown = {event.text for event in driver.events if isinstance(event, Partial)}
    first, *others = driver.requests
    assert first.job.draft == ""
    num_drafted = 0
    for request in others:
        job = request.job
        assert not job.prefix or not job.draft.startswith(job.prefix)
        assert any(text.endswith(job.draft) for text in shown)
        num_drafted += bool(job.draft)
    assert num_drafted > len(others) // 2
    assert driver.requests[-1].purpose is not Purpose.INTERIM
