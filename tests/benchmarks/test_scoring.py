import pytest

from benchmarks.scoring import Percentiles, WordErrors, normalise, word_errors


def test_normalisation_is_whispers() -> None:
    assert normalise("Colour me, twenty-one — don't!") == "color me 21 do not"


def test_word_errors_over_all_pairs_together() -> None:
    errors = word_errors(["one fish two fish", "red fish"], ["one fish fish", "red red fish"])
    assert errors == WordErrors(num_words=6, substitutions=0, deletions=1, insertions=1)
    assert errors.rate == pytest.approx(2 / 6)


def test_the_same_words_in_another_dress_are_no_errors() -> None:
    assert word_errors(["It's 5 o'clock."], ["it is five o'clock"]).rate <= 0.25
    assert word_errors(["Hello, Doctor!"], ["hello doctor"]).rate == 0


def test_text_where_nothing_was_said() -> None:
    assert word_errors([""], ["two words"]) == WordErrors(0, 0, 0, 2)
    assert word_errors([""], ["two words"]).rate == 1.0
    assert word_errors([], []).rate == 0.0
    assert word_errors(["a b", ""], ["a b", "c"]).rate == 0.5


def test_missing_text_is_all_deletions() -> None:
    assert word_errors(["a b c"], [""]) == WordErrors(3, 0, 3, 0)


def test_percentiles() -> None:
    found = Percentiles.of(range(101))
    assert (found.p50, found.p95, found.p99, found.count) == (50.0, 95.0, 99.0, 101)
    assert str(found) == "50 / 95 / 99"
    assert str(Percentiles.of([])) == "-"
    assert Percentiles.of([]).to_json() == {"p50": None, "p95": None, "p99": None, "count": 0}
