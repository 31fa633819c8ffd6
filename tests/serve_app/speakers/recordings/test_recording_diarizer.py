from hypothesis import given
from hypothesis import strategies as st

from serve_app.speakers.recordings.diarizer import (
    exclusive_turns,
    join_turns,
    relabelled,
    to_diarization,
)
from serve_app.speakers.turns import Diarization, Turn


def test_neighbours_of_one_speaker_are_joined_over_a_short_pause() -> None:
    turns = [Turn(0.0, 1.0, 0), Turn(1.1, 2.0, 0), Turn(2.5, 3.0, 0), Turn(3.0, 4.0, 1), Turn(4.05, 5.0, 0)]

    joined = join_turns(turns, 0.2)

    assert joined == [Turn(0.0, 2.0, 0), Turn(2.5, 3.0, 0), Turn(3.0, 4.0, 1), Turn(4.05, 5.0, 0)]


def test_a_turn_takes_the_new_speaker_of_what_it_shares_most_time_with() -> None:
    reference = [Turn(0.0, 2.0, 7), Turn(5.0, 9.0, 7), Turn(2.0, 5.0, 3)]

    changed = relabelled([Turn(0.0, 2.5, 7), Turn(4.5, 9.0, 7), Turn(2.0, 5.0, 3)], reference, [0, 1, 2])

    assert [turn.speaker for turn in changed] == [0, 1, 2]


def test_whoever_began_first_keeps_the_floor() -> None:
    turns = [Turn(0.0, 4.0, 0), Turn(3.0, 6.0, 1), Turn(5.0, 5.5, 2)]

    assert exclusive_turns(turns) == [Turn(0.0, 4.0, 0), Turn(4.0, 6.0, 1)]


def test_speakers_are_numbered_as_they_first_speak_and_turns_end_with_the_recording() -> None:
    turns = [Turn(2.0, 9.0, 4), Turn(-0.1, 1.0, 9), Turn(3.0, 4.0, 4), Turn(9.5, 9.9, 5)]

    found = to_diarization(turns, [Turn(-0.1, 1.0, 9), Turn(2.0, 9.0, 4)], 8.0)

    assert found == Diarization(
        (Turn(0.0, 1.0, 0), Turn(2.0, 8.0, 1)), (Turn(0.0, 1.0, 0), Turn(2.0, 8.0, 1)), 2
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 200), st.integers(1, 40), st.integers(0, 3)).map(
            lambda drawn: Turn(drawn[0] / 10, (drawn[0] + drawn[1]) / 10, drawn[2])
        ),
        max_size=20,
    )
)
def test_exclusive_turns_cover_the_same_time_once(turns: list[Turn]) -> None:
    exclusive = exclusive_turns(turns)

    assert all(one.end_s <= other.start_s for one, other in zip(exclusive, exclusive[1:], strict=False))
    for tenth in range(250):
        moment = tenth / 10 + 0.05
        speaking = {turn.speaker for turn in turns if turn.start_s <= moment < turn.end_s}
        holding = {turn.speaker for turn in exclusive if turn.start_s <= moment < turn.end_s}
        assert holding <= speaking
        assert bool(holding) == bool(speaking)
