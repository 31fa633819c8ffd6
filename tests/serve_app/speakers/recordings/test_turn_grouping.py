import numpy as np
import numpy.typing as npt
import pytest

from serve_app.speakers.recordings import turn_grouping
from serve_app.speakers.recordings.turn_grouping import group_turns
from serve_app.speakers.turns import SpeakerCounts

Floats = npt.NDArray[np.float32]


def voices(
    num_voices: int, num_turns: int, noise: float, seed: int = 0
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Turns of voices at right angles to each other, and whose each is."""
    random = np.random.default_rng(seed)
    whose = np.arange(num_turns) % num_voices
    means = np.linalg.qr(random.normal(size=(64, num_voices)))[0].T
    turns = means[whose] + random.normal(size=(num_turns, 64)) * noise / 8
    return (turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(np.float32), whose


def seconds(num_turns: int, each_s: float = 3.0) -> Floats:
    return np.full(num_turns, each_s, np.float32)


def same_partition(found: npt.NDArray[np.int64], whose: npt.NDArray[np.int64]) -> bool:
    return len({(int(one), int(other)) for one, other in zip(found, whose, strict=True)}) == len(
        set(whose.tolist())
    )


@pytest.mark.parametrize("num_voices", [1, 2, 3, 5])
def test_turns_of_a_voice_are_one_speaker(num_voices: int) -> None:
    embeddings, whose = voices(num_voices, 30, noise=0.3)

    assert same_partition(group_turns(embeddings, seconds(30), SpeakerCounts()), whose)


def test_the_less_is_said_the_further_apart_one_voice_may_be() -> None:
    apart = np.zeros((2, 64), np.float32)
    apart[:, 0] = 1.0
    apart[1, :2] = 0.5, np.sqrt(0.75)

    short = group_turns(apart, np.array([1.2, 1.2], np.float32), SpeakerCounts())
    long = group_turns(apart, np.array([60.0, 60.0], np.float32), SpeakerCounts())

    assert len(set(short.tolist())) == 1
    assert len(set(long.tolist())) == 2


@pytest.mark.parametrize("wanted", [1, 2, 3, 4, 7])
def test_as_many_speakers_as_asked_for(wanted: int) -> None:
    embeddings, _ = voices(3, 30, noise=0.3)

    found = group_turns(embeddings, seconds(30), SpeakerCounts(exact=wanted))

    assert sorted(set(found.tolist())) == list(range(wanted))


def test_bounds_of_the_number_of_speakers() -> None:
    embeddings, _ = voices(4, 40, noise=0.3)

    few = group_turns(embeddings, seconds(40), SpeakerCounts(most=2))
    many = group_turns(embeddings, seconds(40), SpeakerCounts(least=6))
    free = group_turns(embeddings, seconds(40), SpeakerCounts(least=2, most=8))

    assert [len(set(found.tolist())) for found in (few, many, free)] == [2, 6, 4]


def test_a_word_in_a_strange_voice_is_no_speaker() -> None:
    embeddings, _ = voices(2, 21, noise=0.2)
    lasting = seconds(21)
    stranger = np.zeros((1, 64), np.float32)
    stranger[0, 5] = 1.0
    embeddings, lasting = np.vstack([embeddings, stranger]), np.append(lasting, np.float32(0.6))

    assert len(set(group_turns(embeddings, lasting, SpeakerCounts()).tolist())) == 2


def test_more_speakers_than_turns_are_not_invented() -> None:
    embeddings, _ = voices(2, 2, noise=0.1)

    assert group_turns(embeddings, seconds(2), SpeakerCounts(exact=5)).tolist() in ([0, 1], [1, 0])


def test_turns_that_nothing_is_known_of() -> None:
    assert group_turns(np.zeros((3, 64), np.float32), seconds(3, 0.1), SpeakerCounts()).tolist() == [0, 0, 0]
    assert group_turns(np.zeros((0, 64), np.float32), seconds(0), SpeakerCounts()).tolist() == []


def test_only_so_many_turns_take_part_in_finding_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_grouping, "MAX_GROUPED_TURNS", 20)
    embeddings, whose = voices(3, 200, noise=0.3)

    assert same_partition(group_turns(embeddings, seconds(200), SpeakerCounts()), whose)


def alike(num_turns: tuple[int, int], distance: float, noise: float) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Turns of two voices whose means are `distance` apart."""
    random = np.random.default_rng(3)
    whose = np.repeat([0, 1], num_turns)
    means = np.zeros((2, 64))
    means[:, 0] = 1.0
    means[1, :2] = 1 - distance, np.sqrt(1 - (1 - distance) ** 2)
    turns = means[whose] + random.normal(size=(len(whose), 64)) * noise / 8
    return (turns / np.linalg.norm(turns, axis=1, keepdims=True)).astype(np.float32), whose


def test_voices_that_are_alike_are_told_apart_by_several_turns_each() -> None:
    embeddings, whose = alike((3, 3), distance=0.35, noise=0.2)

    assert same_partition(group_turns(embeddings, seconds(6), SpeakerCounts()), whose)
    assert len(set(group_turns(embeddings, seconds(6), SpeakerCounts(most=1)).tolist())) == 1


def test_one_strange_turn_is_no_second_voice() -> None:
    embeddings, _ = alike((5, 1), distance=0.35, noise=0.2)

    assert len(set(group_turns(embeddings, seconds(6), SpeakerCounts()).tolist())) == 1
