from hypothesis import given
from hypothesis import strategies as st

from fakes.spoken_events import final, partial
from serve_app.protocols.deltas import MAX_OPEN_UTTERANCES, NewWords, split_stable

WORDS = st.lists(st.sampled_from(["Hello", "world", "Olá,", "you", "日本", "I"]), max_size=8).map(" ".join)


def shown_after(deltas):
    shown = ""
    for delta in deltas:
        if delta is not None:
            assert 0 <= delta.keep_chars <= len(shown)
            shown = shown[: delta.keep_chars] + delta.text
    return shown


@given(stable=WORDS, cuts=st.lists(st.integers(0, 60), max_size=6), tail=WORDS, said=WORDS)
def test_the_one_rule_gives_the_stable_text_and_then_the_final(stable, cuts, tail, said):
    words = NewWords()
    ends = [*sorted(min(cut, len(stable)) for cut in cuts), len(stable)]
    deltas = [words.partial(partial(stable[:end] + "|" + tail, end, 2.0)) for end in ends]
    assert shown_after(deltas) == stable.rstrip()
    assert all(delta is None or delta.keep_chars == len(before) for delta, before in told(deltas))
    assert shown_after([*deltas, words.final(final(said, (), 0, 1.0, 2.0))]) == said


def told(deltas):
    """Each delta with what was shown before it."""
    return [(delta, shown_after(deltas[:index])) for index, delta in enumerate(deltas)]


def test_a_final_keeps_what_it_agrees_with_down_to_whole_words():
    words = NewWords()
    words.partial(partial("He said nothing", 15, 2.0))
    delta = words.final(final("He said no more.", (), 0, 1.0, 2.0))
    assert delta == (8, "no more.")


def test_nothing_new_is_nothing():
    words = NewWords()
    assert words.partial(partial("unstable", 0, 2.0)) is None
    assert words.partial(partial("Hello there", 5, 2.0)) == (0, "Hello")
    assert words.partial(partial("Hello then", 6, 2.0)) is None


def test_utterances_do_not_mix_and_lost_ones_are_forgotten():
    words = NewWords()
    for number in range(MAX_OPEN_UTTERANCES + 5):
        words.partial(partial("Hello", 5, 2.0, number=number))
    assert words.shown("seg-0000") == ""
    assert words.shown(f"seg-{MAX_OPEN_UTTERANCES + 4:04d}") == "Hello"


def test_stable_and_unstable_text():
    assert split_stable(partial("Hello world", 6, 2.0)) == ("Hello", "world")
