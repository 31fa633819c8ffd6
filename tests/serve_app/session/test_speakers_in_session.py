"""Who speaks in a live session: labels follow text, are right in the end, and outlive a cut."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.session_driver import Driver
from fakes.talk import Say, speak
from fakes.voices import speaker_of
from serve_app.core.events import (
    Event,
    Final,
    SessionEnded,
    SpeakerRevision,
)
from serve_app.session.checkpoint import Checkpoint
from serve_app.session.options import SessionOptions
from serve_app.session.session import Session
from serve_app.session.ticket import MAX_TICKET_CHARS, TicketOffice
from serve_app.speakers.turns import SpeakerCounts, SpeakerMode
from serve_app.vad.options import EndpointingOptions

OPTIONS = SessionOptions("s", language="en", partials=False, speakers=SpeakerMode.VOICE)
SILENT = replace(OPTIONS, speakers=SpeakerMode.OFF)
A, B, C = 1, 101, 201


def turn(first: int, num_words: int, pause_ms: int = 700) -> list[Say]:
    """Words of one person, who then pauses."""
    words = [Say(first + index, ms=320, pause_ms=40) for index in range(num_words)]
    return [*words[:-1], replace(words[-1], pause_ms=pause_ms)]


TALK = [*turn(A, 9), *turn(B, 8), *turn(A + 20, 7), *turn(C, 8), *turn(B + 20, 8), *turn(A + 40, 8)]
AUDIO = speak(TALK)
HASTY = speak([*turn(A, 9, pause_ms=100), *turn(B, 9, pause_ms=100), *turn(A + 20, 9), *turn(B + 20, 6)])
"""Two people who leave no pause between them: utterances with both."""


def said(events: Iterable[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def labels(events: Iterable[Event]) -> dict[str, int | None]:
    """Word to speaker, as a client knows it at the end."""
    known: dict[str, int | None] = {}
    words: dict[str, list[str]] = {}
    for event in events:
        if isinstance(event, Final):
            words[event.utterance_id] = [word.word for word in event.words]
            known |= {word.word: word.speaker for word in event.words}
        if isinstance(event, SpeakerRevision):
            known |= dict(zip(words[event.utterance_id], event.word_speakers, strict=True))
    return known


def expected(known: dict[str, int | None]) -> dict[str, int]:
    """Numbered in the order in which they first speak."""
    people = [speaker_of(int(word.strip()[1:])) for word in known]
    order = {person: index for index, person in enumerate(dict.fromkeys(people))}
    return {word: order[person] for word, person in zip(known, people, strict=True)}


def run(options: SessionOptions = OPTIONS, audio=AUDIO, seed: int | None = None, chunks=None) -> Driver:
    rng = None if seed is None else random.Random(seed)
    driver = Driver(Session(options, issue_ticket=lambda _: ""), rng)
    driver.run(audio, chunks)
    return driver


def test_every_word_is_labelled_and_people_keep_their_numbers() -> None:
    known = labels(run().events)
    assert len(known) == len(TALK)
    assert known == expected(known)


def test_an_utterance_of_two_people_is_labelled_by_the_word() -> None:
    events = run(audio=HASTY).events
    mixed = [final for final in said(events) if len({word.speaker for word in final.words}) == 2]
    assert mixed
    known = labels(events)
    wrong = [word for word, speaker in expected(known).items() if known[word] != speaker]
    assert not wrong


def test_a_quick_diarizer_labels_finals_before_they_are_sent() -> None:
    finals = said(run().events)
    assert all(final.speaker is not None for final in finals)
    assert [final.speaker for final in finals] == [0, 1, 0, 2, 1, 0]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(160, 16_000), min_size=1, max_size=5))
def test_late_answers_change_no_text_and_labels_are_right_in_the_end(seed: int, chunks: list[int]) -> None:
    with_labels = run(seed=seed, chunks=chunks)
    without = run(SILENT, seed=seed, chunks=chunks)
    plain = [(final.utterance_id, final.text, final.start_sample) for final in said(without.events)]
    assert [(f.utterance_id, f.text, f.start_sample) for f in said(with_labels.events)] == plain
    known = labels(with_labels.events)
    assert known == expected(known)
    assert isinstance(with_labels.events[-1], SessionEnded)


@pytest.mark.parametrize("index", range(6))
def test_a_session_that_goes_on_elsewhere_knows_the_voices(index: int) -> None:
    office = TicketOffice(b"key")
    tickets: list[str] = []

    def issue(checkpoint: Checkpoint) -> str:
        tickets.append(office.issue(OPTIONS, checkpoint, 0))
        return tickets[-1]

    first = Driver(Session(OPTIONS, issue_ticket=issue), random.Random(index))
    first.run(AUDIO)
    finals = said(first.events)
    cut_at = next(place for place, event in enumerate(first.events) if event is finals[index])
    ticket = finals[index].ticket
    assert len(ticket) <= MAX_TICKET_CHARS
    redeemed = office.redeem(ticket, OPTIONS, 0)

    second = Driver(Session(OPTIONS, redeemed.checkpoint, issue_ticket=issue))
    (started,) = second.session.start()
    assert started.resume_from_samples == finals[index].resume_sample == second.session.received_samples
    second.run(AUDIO[started.resume_from_samples :])
    events = [*first.events[: cut_at + 1], *second.events]
    assert [final.text for final in said(events)] == [final.text for final in finals]
    known = labels(events)
    assert known == expected(known)


def test_finals_that_nobody_had_a_name_for_are_named_after_the_cut() -> None:
    """The ticket goes back far enough for the audio to be listened to again."""
    session = Session(OPTIONS)
    driver = Driver(session)
    driver.listens = False
    position = 0
    while len(said(driver.events)) < 2:
        session.push(AUDIO[position : position + 1600])
        position += 1600
        driver.turn()
    checkpoint = session.checkpoint
    assert checkpoint.speakers is not None
    assert [final.sequence for final in checkpoint.speakers.unlabelled] == [0, 1]
    assert checkpoint.resume_sample == said(driver.events)[0].start_sample < checkpoint.sample

    second = Driver(Session(OPTIONS, checkpoint))
    second.run(AUDIO[checkpoint.resume_sample :])
    known = labels([*driver.events, *second.events])
    assert known == expected(known)
    assert len(said([*driver.events, *second.events])) == 6


def test_without_answers_text_flows_and_the_end_waits_only_until_given_up() -> None:
    session = Session(OPTIONS)
    driver = Driver(session)
    driver.listens = False
    session.push(AUDIO)
    session.end()
    for _ in range(100):
        driver.turn(answer_all=True)
    assert len(said(driver.events)) == 6
    assert not session.ended
    assert session.waits_for_speakers
    assert session.speakers is not None
    driver.apply(session.speakers.give_up())
    assert isinstance(driver.events[-1], SessionEnded)


def test_what_a_failed_window_would_have_said_the_next_one_says() -> None:
    driver = Driver(Session(OPTIONS))
    driver.num_failing_windows = 1
    driver.run(AUDIO)
    assert driver.num_failing_windows == 0
    known = labels(driver.events)
    assert known == expected(known)
    deaf = Driver(Session(OPTIONS))
    deaf.num_failing_windows = 1_000
    deaf.run(AUDIO)
    assert set(labels(deaf.events).values()) == {None}
    assert len(said(deaf.events)) == 6


def test_audio_is_not_kept_for_ever_where_nobody_listens() -> None:
    session = Session(replace(OPTIONS, endpointing=EndpointingOptions(max_utterance_ms=5_000)))
    driver = Driver(session)
    driver.listens = False
    for _ in range(8):
        session.push(AUDIO)
        driver.turn()
    assert session.held_samples < 75 * 16_000


def test_never_more_speakers_than_asked_for() -> None:
    most_two = replace(OPTIONS, speaker_counts=SpeakerCounts(most=2))
    assert set(labels(run(most_two).events).values()) <= {0, 1}


def test_a_diarizer_that_comes_late_hears_what_is_still_held() -> None:
    """A minute and more of speech waits: what is older is forgotten, the rest is listened to."""
    audio = np.concatenate([AUDIO] * 5)
    driver = Driver(Session(OPTIONS))
    driver.listens = False
    driver.session.push(audio)
    for _ in range(60):
        driver.turn()
    driver.listens = True
    driver.session.end()
    while not driver.session.ended:
        driver.turn(answer_all=True)
    finals = said(driver.events)
    assert len(finals) == 30
    told = [event for event in driver.events if isinstance(event, Final | SpeakerRevision)]
    speakers = {event.utterance_id: event.speaker for event in told}
    newest = list(speakers.values())[-12:]
    assert None not in newest
    assert len(set(newest)) == 3
