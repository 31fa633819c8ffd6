from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fakes.spoken_events import GREETING, WORDS, final, revision, spoken_by
from serve_app.core.jobs import Word
from serve_app.protocols.speaker_runs import (
    MAX_WAITING,
    SentFinals,
    WaitingFinals,
    all_known,
    revised,
    speaker_runs,
)

SPEAKERS = st.none() | st.integers(0, 2)


def said(event):
    return [(run.speaker, run.text) for run in speaker_runs(event)]


@given(st.lists(st.tuples(st.sampled_from([" Olá,", " mundo.", " -", "你好", " x"]), SPEAKERS), max_size=12))
def test_runs_in_a_row_are_the_final(parts):
    words = tuple(Word(word, i + 0.1, i + 0.9, 0.9, speaker) for i, (word, speaker) in enumerate(parts))
    text = "".join(word.word for word in words).strip()
    event = final(text, words, 0, 0.0, len(words) + 1.0)
    runs = speaker_runs(event)
    assert "".join(run.text for run in runs).replace(" ", "") == text.replace(" ", "")
    assert tuple(word for run in runs for word in run.words) == words
    assert (runs[0].start_s, runs[-1].end_s) == (0.0, len(words) + 1.0)
    assert all(one.speaker != other.speaker for one, other in zip(runs, runs[1:], strict=False))
    known = {speaker for _, speaker in parts if speaker is not None}
    assert {run.speaker for run in runs} == (known or {None})


def test_an_unknown_word_belongs_to_those_before_it():
    assert said(GREETING) == [(0, "Hello world."), (1, "Good day.")]
    assert said(spoken_by(GREETING, 1, None, 1, None, 1)) == [(1, "Hello world. Good day.")]
    assert said(spoken_by(GREETING, 0, None, 0, 1, None)) == [(0, "Hello world."), (1, "Good day.")]


def test_text_that_is_not_its_words_stays_in_one_piece():
    other = replace(GREETING, text="Something else.")
    assert said(other) == [(0, "Something else.")]
    assert said(final("No words.", (), 0, 0.0, 1.0)) == [(None, "No words.")]


def test_a_revision_replaces_every_label():
    now = revised(GREETING, revision(GREETING, 1, 1, 1, None, 0))
    assert (now.speaker, [word.speaker for word in now.words]) == (1, [1, 1, None, 0])
    assert not all_known(now)
    assert all_known(revised(now, revision(GREETING, 1, 1, 1, 1, 0)))


def test_a_revision_of_a_final_without_words_is_of_all_of_it():
    event = final("No words.", (), 0, 0.0, 1.0)
    assert not all_known(event)
    now = revised(event, revision(event, 2, 2))
    assert (now.speaker, now.words) == (2, ())
    assert all_known(now)


def test_only_so_many_finals_are_remembered():
    sent = SentFinals(max_finals=2)
    events = [final("Hello world. Good day.", WORDS, number, number, number + 1) for number in range(3)]
    for event in events:
        sent.add(event)
    assert sent.revise(revision(events[0], 1, 1, 1, 1, 1)) is None
    changed = sent.revise(revision(events[2], 1, 1, 1, 1, 1))
    assert changed is not None
    assert changed.speaker == 1


def test_finals_wait_in_order_until_their_speakers_are_known():
    waiting = WaitingFinals()
    first, second, third = (final("No words.", (), number, number, number + 1) for number in range(3))
    assert waiting.add(first) == waiting.add(second) == []
    assert waiting.revise(revision(second, 1)) == [], "the first goes on first"
    assert waiting.revise(revision(third, 1)) is None
    assert waiting.revise(revision(first, 0)) == [replace(first, speaker=0), replace(second, speaker=1)]
    assert waiting.revise(revision(first, 1)) is None
    assert waiting.add(third) == []
    assert list(waiting) == [third]
    assert waiting.settle() == [third]
    assert list(waiting) == []


def test_only_so_many_finals_wait():
    waiting = WaitingFinals()
    events = [final("No words.", (), number, number, number + 1) for number in range(MAX_WAITING + 1)]
    assert [waiting.add(event) for event in events] == [[]] * MAX_WAITING + [events[:1]]


def test_where_the_next_utterance_begins():
    event = final("x", (), 0, 2.0, 3.0)
    assert event.begins_next == event.resume_sample
    assert replace(event, resume_sample=16_000, next_sample=46_400).begins_next == 46_400
