import pytest
from msgspec import UNSET, UnsetType

from benchmarks.live.load import Arrival, SessionLog
from benchmarks.text.lag import (
    TextFigures,
    matched_words,
    measure_session,
    utterances,
    words_of,
)
from fakes import messages
from sotto_client.messages import Heartbeat, Message

STARTED_S = 50.0
"""Chunk k of 100 ms goes out at 50.0 + 0.1 (k + 1), as soon as it is full."""


def log_of(*arrivals: Arrival[Message], speed: float = 1.0) -> SessionLog:
    sent = [STARTED_S + 0.1 * (index + 1) / speed for index in range(60)]
    return SessionLog(100, speed, sent, list(arrivals))


def partial(at_ms: float, text: str, stable: str = "", segment: str = "1") -> Arrival[Message]:
    assert text.startswith(stable)
    return Arrival(
        STARTED_S + at_ms / 1000, messages.partial(text, at_ms, segment=segment, stable_chars=len(stable))
    )


def final(
    at_ms: float,
    text: str,
    *times_ms: tuple[str, float, float],
    endpoint_ms: float | UnsetType = UNSET,
    end_ms: float = 2000.0,
    segment: str = "1",
) -> Arrival[Message]:
    words = tuple(messages.word(word, start / 1000, end / 1000) for word, start, end in times_ms)
    message = messages.final(text, end_ms, endpoint_ms=endpoint_ms, segment=segment, words=words)
    return Arrival(STARTED_S + at_ms / 1000, message)


def test_the_moment_at_which_a_sample_was_spoken() -> None:
    clock = log_of()
    for stream_ms in (0.0, 30.0, 100.0, 1234.0):
        assert clock.spoken_s(stream_ms) == pytest.approx(STARTED_S + stream_ms / 1000)
    assert clock.sent_s(1234.0) == pytest.approx(STARTED_S + 1.3)
    assert log_of(speed=4.0).spoken_s(1234.0) == pytest.approx(STARTED_S + 1.234 / 4)


def test_all_times_of_an_utterance() -> None:
    log = log_of(
        partial(700, "good"),
        partial(1200, "good mourning", stable="good"),
        partial(1700, "good morning doctor", stable="good morning"),
        final(
            2650,
            "Good morning, doctor.",
            ("Good", 310, 500),
            ("morning", 500, 1000),
            ("doctor", 1000, 1600),
            endpoint_ms=2410,
        ),
    )
    figures = measure_session(log, commits=False)
    assert figures.first_word_ms == [pytest.approx(390)]
    assert figures.commit_lag_ms == [pytest.approx(700), pytest.approx(700), pytest.approx(1050)]
    assert figures.final_ms == [pytest.approx(150)]
    assert (figures.num_changed_words, figures.num_final_words) == (1, 3)
    assert figures.flicker == pytest.approx(1 / 3)
    assert figures.num_retractions == 0


def test_a_final_without_partials_and_without_an_endpoint() -> None:
    figures = measure_session(log_of(final(2100, "yes", ("yes", 400, 900))), commits=True)
    assert figures.first_word_ms == [pytest.approx(1700)]
    assert figures.commit_lag_ms == [pytest.approx(1200)]
    assert figures.final_ms == [pytest.approx(100)]
    assert figures.num_retractions == figures.num_changed_words == 0


def test_a_final_without_words_has_no_word_times() -> None:
    figures = measure_session(log_of(partial(500, "a"), final(2100, "a b")), commits=False)
    assert (figures.first_word_ms, figures.commit_lag_ms) == ([], [])
    assert len(figures.final_ms) == 1
    assert figures.num_final_words == 2


def test_a_partial_without_text_is_no_first_word() -> None:
    log = log_of(partial(500, "  "), partial(800, "a"), final(2100, "a", ("a", 400, 600)))
    assert measure_session(log, commits=False).first_word_ms == [pytest.approx(400)]


@pytest.mark.parametrize("text", ["one too three", "One two three", "one", "one  two"])
def test_a_broken_stable_prefix_is_a_retraction(text: str) -> None:
    log = log_of(partial(500, "one two three", stable="one two"), partial(900, text), final(2100, text))
    assert measure_session(log, commits=False).num_retractions == 1


def test_a_stable_prefix_that_holds_is_none() -> None:
    log = log_of(
        partial(500, "one two", stable="one two"),
        partial(700, "one two three", stable="one"),
        partial(900, "one two four", stable="one two four"),
        final(2100, "one two four five"),
    )
    figures = measure_session(log, commits=True)
    assert figures.num_retractions == 0
    assert figures.num_changed_words == 1


def test_a_shorter_stable_prefix_does_not_release_the_longer_one() -> None:
    log = log_of(
        partial(500, "one two", stable="one two"),
        partial(700, "one two three", stable="one"),
        partial(900, "one too three"),
        final(2100, "one too three"),
    )
    assert measure_session(log, commits=False).num_retractions == 1


def test_each_break_counts_once_and_against_what_was_promised_last() -> None:
    log = log_of(
        partial(500, "a b", stable="a b"),
        partial(600, "x y", stable="x y"),
        partial(700, "x y z", stable="x y"),
        partial(800, "a b", stable="a"),
        final(2100, "a b"),
    )
    assert measure_session(log, commits=True).num_retractions == 2


@pytest.mark.parametrize(("commits", "retractions"), [(False, 0), (True, 1)])
def test_only_policies_that_commit_promise_the_final(commits: bool, retractions: int) -> None:
    log = log_of(partial(500, "one two", stable="one"), final(2100, "won two"))
    assert measure_session(log, commits=commits).num_retractions == retractions


@pytest.mark.parametrize(("stable", "retractions"), [("", 0), ("one", 1)])
def test_what_was_committed_must_come(stable: str, retractions: int) -> None:
    log = log_of(partial(500, "one two", stable=stable))
    assert measure_session(log, commits=True).num_retractions == retractions
    assert measure_session(log, commits=False) == TextFigures()


def test_a_retracted_word_is_committed_when_it_comes_back() -> None:
    log = log_of(
        partial(600, "one two", stable="one"),
        partial(1000, "won two", stable="won"),
        partial(1400, "one two", stable="one two"),
        final(2100, "one two", ("one", 100, 300), ("two", 400, 800)),
    )
    figures = measure_session(log, commits=False)
    assert figures.num_retractions == 2
    assert figures.commit_lag_ms == [pytest.approx(1100), pytest.approx(600)]


def test_a_word_that_the_final_says_otherwise_is_committed_by_the_final() -> None:
    log = log_of(
        partial(900, "their cat sat", stable="their cat"),
        final(2100, "there cat sat", ("there", 100, 300), ("cat", 400, 600), ("sat", 700, 800)),
    )
    lags = measure_session(log, commits=False).commit_lag_ms
    assert lags == [pytest.approx(1800), pytest.approx(300), pytest.approx(1300)]


def test_flicker_counts_every_change_up_to_the_final_but_not_case_and_punctuation() -> None:
    log = log_of(
        partial(400, "i scream"),
        partial(600, "ice cream is"),
        partial(800, "ice cream, is could"),
        final(2100, "Ice cream is cold!"),
    )
    figures = measure_session(log, commits=False)
    assert (figures.num_changed_words, figures.num_final_words) == (3, 4)


def test_words_in_between_are_no_change_and_words_that_vanish_are() -> None:
    added = log_of(partial(400, "a c"), final(2100, "a b c d"))
    assert measure_session(added, commits=False).num_changed_words == 0
    gone = log_of(partial(400, "a b c d"), final(2100, "a d"))
    assert measure_session(gone, commits=False).num_changed_words == 2


def test_utterances_are_told_apart_and_late_partials_ignored() -> None:
    log = log_of(
        partial(400, "a", stable="a"),
        partial(500, "b", stable="b", segment="2"),
        Arrival(STARTED_S + 0.5, Heartbeat(t_ms=500.0)),
        final(2100, "a"),
        partial(2200, "z"),
        final(2300, "b c", segment="2"),
    )
    found = utterances(log.arrivals)
    assert [(len(shown), last and last.message.text) for shown, last in found] == [(1, "a"), (1, "b c")]
    assert measure_session(log, commits=True).num_retractions == 0


def test_figures_of_many_sessions() -> None:
    figures = TextFigures([1.0], [2.0], [3.0], 1, 2, 3)
    figures += TextFigures([4.0], [5.0, 6.0], [], 1, 1, 1)
    assert figures == TextFigures([1.0, 4.0], [2.0, 5.0, 6.0], [3.0], 2, 3, 4)
    assert figures.flicker == 0.75
    assert TextFigures().flicker is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Well, DON'T -- stop!", ["well", "dont", "stop"]),
        ("  ", []),
        ("你好 ok。", ["你", "好", "ok"]),
        ("Größe STRASSE", ["grösse", "strasse"]),
    ],
)
def test_words_as_they_are_compared(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("shown", "settled", "pairs"),
    [
        ("a b c", "a x b c d", [(0, 0), (1, 2), (2, 3)]),
        ("the their cat", "the there cat sat the their cat", [(0, 0), (2, 2)]),
        ("x", "a b x", []),
        ("a b", "", []),
        ("", "a b", []),
        ("a b a", "b a", [(1, 0), (2, 1)]),
    ],
)
def test_alignment_with_a_free_end(shown: str, settled: str, pairs: list[tuple[int, int]]) -> None:
    assert matched_words(shown.split(), settled.split()) == pairs
