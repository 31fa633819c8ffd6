import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve_app.speakers.frames import frames_away, runs_of


@given(st.lists(st.booleans(), max_size=40))
def test_runs_hold_every_frame_that_is_active_and_never_touch(active: list[bool]) -> None:
    runs = runs_of(np.array(active, np.bool_))
    assert [frame for run in runs for frame in range(*run)] == [
        frame for frame, is_active in enumerate(active) if is_active
    ]
    assert all(one[1] < other[0] for one, other in zip(runs, runs[1:], strict=False))


def test_how_far_frames_are_from_runs() -> None:
    away = frames_away(np.array([0, 2, 4, 5, 9]), [(2, 5), (7, 8)])
    assert away.tolist() == [[2, 7], [0, 5], [0, 3], [1, 2], [5, 2]]
