from hypothesis import given
from hypothesis import strategies as st

from fakes.spoken_events import final, partial
from serve_app.protocols.transcript_lines import SILENCE, LineDiff, TranscriptLines, clock

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("partial"), st.sampled_from(["a", "a b", "a b c"]), st.integers(0, 5)),
        st.tuples(st.just("final"), st.sampled_from(["one", "two", "three"]), st.integers(0, 12)),
    ),
    max_size=40,
)


@given(STEPS)
def test_a_client_that_applies_the_changes_has_the_lines(steps):
    lines, diff, shown = TranscriptLines(max_lines=4), LineDiff(), []
    number, at_s = 0, 0.0
    for kind, text, amount in steps:
        if kind == "partial":
            lines.partial(partial(text, min(amount, len(text)), at_s + 1, number, at_s))
        else:
            at_s += amount
            lines.final(final(text, (), number, at_s, at_s + 1))
            number, at_s = number + 1, at_s + 1
        change = diff.change(lines.lines(), lines.num_pruned)
        shown = shown[change.num_pruned :][: change.num_lines - len(change.new)] + list(change.new)
        assert shown == lines.lines()


def test_finals_are_for_good_and_stable_text_grows_behind_them():
    lines = TranscriptLines()
    lines.final(final("First.", (), 0, 0.0, 1.0))
    lines.partial(partial("Second one", 6, 2.0, 1, 1.0))
    assert [line.text for line in lines.lines()] == ["First.", "Second"]
    assert lines.buffer() == "one"
    lines.final(final("Second one.", (), 1, 1.0, 2.0))
    assert [line.text for line in lines.lines()] == ["First.", "Second one."]
    assert lines.buffer() == ""


def test_an_utterance_without_a_final_goes_when_a_later_one_has_its_own():
    lines = TranscriptLines()
    lines.partial(partial("lost words", 4, 2.0, 0))
    lines.partial(partial("kept", 0, 3.0, 1, 2.0))
    lines.final(final("Kept.", (), 1, 2.0, 3.0))
    assert [line.text for line in lines.lines()] == ["Kept."]


def test_long_silence_is_a_line_of_its_own():
    lines = TranscriptLines()
    lines.final(final("First.", (), 0, 6.0, 7.0))
    lines.final(final("Soon.", (), 1, 11.9, 13.0))
    assert [(line.speaker, line.start_s, line.end_s) for line in lines.lines()] == [
        (SILENCE, 0.0, 6.0),
        (1, 6.0, 7.0),
        (1, 11.9, 13.0),
    ]


def test_old_lines_are_pruned():
    lines = TranscriptLines(max_lines=2)
    for number in range(5):
        lines.final(final(str(number), (), number, number, number + 1))
    assert [line.text for line in lines.lines()] == ["3", "4"]
    assert lines.num_pruned == 3


def test_clock():
    assert [clock(0), clock(59.9), clock(3_661), clock(36_000)] == [
        "0:00:00",
        "0:00:59",
        "1:01:01",
        "10:00:00",
    ]
