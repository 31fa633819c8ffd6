from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fakes.spoken_events import ANSWER, GREETING, WORDS, final, partial, revision, spoken_by
from serve_app.protocols.speaker_runs import MAX_WAITING
from serve_app.protocols.transcript_lines import UNKNOWN, LineDiff, TranscriptLines

SPEAKERS = st.none() | st.integers(0, 2)
LABELS = st.tuples(SPEAKERS, SPEAKERS, SPEAKERS, SPEAKERS)
STEPS = st.lists(
    st.tuples(st.just("final"), LABELS, st.integers(0, 0))
    | st.tuples(st.just("revision"), LABELS, st.integers(0, 6)),
    max_size=40,
)


def numbered(number, labels):
    event = final("Hello world. Good day.", WORDS, number, number, number + 0.9)
    return spoken_by(event, next((one for one in labels if one is not None), None), *labels)


def shown(lines):
    return [(line.speaker, line.text) for line in lines]


@given(STEPS)
def test_what_was_appended_never_changes_and_all_of_it_comes(steps):
    lines, diff, sent, finals = TranscriptLines(speakers=True, append_only=True), LineDiff(), [], []
    for kind, labels, back in steps:
        if kind == "final":
            finals.append(numbered(len(finals), labels))
            lines.final(finals[-1])
        elif len(finals) > back:
            lines.revise(revision(finals[-1 - back], labels[0], *labels))
        change = diff.change(lines.finished(), 0)
        assert change.num_lines - len(change.new) == len(sent), "only appended"
        sent += change.new
        told = "".join(line.text for line in sent) + lines.unattributed()
        assert told.replace(" ", "") == "Helloworld.Goodday." * len(finals)
    lines.settle()
    assert lines.unattributed() == ""
    assert lines.finished()[: len(sent)] == sent
    assert lines.speaker_lag_s == 0.0 or any(None in [w.speaker for w in f.words] for f in finals)


@given(STEPS)
def test_lines_that_can_change_say_what_is_known_last(steps):
    lines, finals = TranscriptLines(speakers=True), []
    for kind, labels, back in steps:
        if kind == "final":
            finals.append(numbered(len(finals), labels))
            lines.final(finals[-1])
        elif len(finals) > back:
            lines.revise(revision(finals[-1 - back], labels[0], *labels))
            finals[-1 - back] = spoken_by(finals[-1 - back], labels[0], *labels)
    anew = TranscriptLines(speakers=True)
    for event in finals:
        anew.final(event)
    assert lines.lines() == anew.lines()


def test_nobody_known_is_nobody_and_text_in_progress_too():
    lines = TranscriptLines(speakers=True)
    lines.final(ANSWER)
    lines.partial(partial("Si senor", 2, 6.0, 2, 5.0))
    assert shown(lines.lines()) == [(UNKNOWN, "- Sí, doctor."), (UNKNOWN, "Si")]
    assert lines.revise(revision(ANSWER, 1, 1, 1, 1))
    assert not lines.revise(revision(ANSWER, 1, 1, 1, 1)), "nothing new"
    assert shown(lines.lines()) == [(2, "- Sí, doctor."), (UNKNOWN, "Si")]


def test_the_lag_is_that_of_the_oldest_unknown_words():
    lines = TranscriptLines(speakers=True)
    lines.final(GREETING)
    lines.partial(partial("Si", 2, 6.0, 1, 5.0))
    assert lines.speaker_lag_s == 5.0
    lines.revise(revision(GREETING, 0, 0, 0, 1, 1))
    assert lines.speaker_lag_s == 0.0


def test_finals_wait_for_their_speakers_but_not_for_ever():
    lines = TranscriptLines(speakers=True, append_only=True)
    unknown = [numbered(number, (None,) * 4) for number in range(MAX_WAITING + 1)]
    for event in unknown[:-1]:
        lines.final(event)
    assert lines.finished() == []
    lines.final(unknown[-1])
    assert shown(lines.finished()) == [(UNKNOWN, "Hello world. Good day.")]


def test_a_final_whose_lines_are_pruned_in_part_stays_as_it_is():
    lines = TranscriptLines(max_lines=2, speakers=True)
    lines.final(GREETING)
    lines.final(replace(ANSWER, speaker=1))
    assert shown(lines.lines()) == [(2, "Good day."), (2, "- Sí, doctor.")]
    assert not lines.revise(revision(GREETING, 0, 0, 0, 0, 0))
    assert lines.revise(revision(ANSWER, 1, 0, 1, 0))
    assert (shown(lines.lines()), lines.num_pruned) == ([(2, "Sí,"), (1, "doctor.")], 3)
