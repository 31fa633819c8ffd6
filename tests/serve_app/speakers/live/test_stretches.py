"""A window's local voices, cut at pauses and put together again."""

import numpy as np

from serve_app.speakers.live.clustering import Floats
from serve_app.speakers.live.stretches import Activity, Stretch, regroup, stretches_alone

FRAME_S = 0.01
ONE, OTHER = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]


def activity(*columns: list[tuple[int, int]], num_frames: int = 1000) -> Activity:
    drawn = np.zeros((num_frames, len(columns)), np.uint8)
    for voice, spans in enumerate(columns):
        for start, end in spans:
            drawn[start:end, voice] = 1
    return drawn


def embeddings(*rows: list[float]) -> Floats:
    return np.array(rows, np.float32)


def test_cut_at_pauses_and_overlaps() -> None:
    found = stretches_alone(activity([(100, 200), (300, 400)], [(350, 450)]), FRAME_S)
    assert found == [Stretch(0, 100, 200), Stretch(0, 300, 350), Stretch(1, 400, 450)]


def test_a_long_run_is_cut_into_equal_parts() -> None:
    found = stretches_alone(activity([(0, 500)]), FRAME_S)
    assert [stretch.end - stretch.start for stretch in found] == [166, 167, 167]


def test_a_breath_is_no_pause_and_a_grunt_no_stretch() -> None:
    assert stretches_alone(activity([(0, 50), (53, 100), (200, 220)]), FRAME_S) == [Stretch(0, 0, 100)]


def test_one_local_voice_that_is_two_people() -> None:
    drawn = activity([(100, 250), (300, 450), (500, 650)])
    found = stretches_alone(drawn, FRAME_S)
    voices = regroup(drawn, FRAME_S, found, embeddings(ONE, OTHER, ONE))
    assert voices.activity.shape == (1000, 2)
    assert np.array_equal(voices.activity, activity([(100, 250), (500, 650)], [(300, 450)]))
    assert voices.clean_s.tolist() == [3.0, 1.5]
    assert np.allclose(voices.embeddings, [ONE, OTHER])


def test_two_local_voices_stay_two_even_where_they_sound_alike() -> None:
    drawn = activity([(100, 250)], [(300, 450)])
    voices = regroup(drawn, FRAME_S, stretches_alone(drawn, FRAME_S), embeddings(ONE, ONE))
    assert np.array_equal(voices.activity, drawn)


def test_a_short_stretch_goes_with_its_neighbour_whatever_it_sounds_like() -> None:
    drawn = activity([(100, 250), (300, 450), (470, 500)])
    voices = regroup(drawn, FRAME_S, stretches_alone(drawn, FRAME_S), embeddings(ONE, OTHER, ONE))
    assert np.array_equal(voices.activity[:, 1], activity([(300, 450), (470, 500)])[:, 0])


def test_the_more_its_stretches_differ_the_shorter_a_voices_embedding() -> None:
    drawn = activity([(100, 200), (300, 400)])
    voices = regroup(drawn, FRAME_S, stretches_alone(drawn, FRAME_S), embeddings(ONE, [0.6, 0.8, 0.0]))
    assert voices.activity.shape[1] == 1
    assert np.allclose(voices.embeddings, [[0.8, 0.4, 0.0]])


def test_a_voice_that_never_speaks_alone_is_heard_but_not_known() -> None:
    drawn = activity([(100, 300)], [(150, 250)])
    found = stretches_alone(drawn, FRAME_S)
    voices = regroup(drawn, FRAME_S, found, embeddings(ONE, ONE))
    assert voices.activity.sum(0).tolist() == [200, 100]
    assert voices.clean_s.tolist() == [1.0, 0.0]
    assert not voices.embeddings[1].any()


def test_silence() -> None:
    drawn = activity([], [], [])
    voices = regroup(drawn, FRAME_S, stretches_alone(drawn, FRAME_S), np.zeros((0, 3), np.float32))
    assert voices.activity.shape == (1000, 0)
    assert voices.embeddings.shape == (0, 3)
