import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.live.demo import DoorResult, report

CLIP = Clip("visit", np.zeros(1600, np.int16), "one two three four five six seven eight nine ten")


@pytest.mark.parametrize(
    ("text", "good"), [(CLIP.text, True), (CLIP.text.replace("ten", "hen"), False), ("", False)]
)
def test_one_bad_door_spoils_it(text: str, good: bool, capsys: pytest.CaptureFixture[str]) -> None:
    results = [DoorResult("first", CLIP.text, 1.0), DoorResult("second", text, 2.0)]
    assert report(results, CLIP, 0.06) is good
    shown = capsys.readouterr().out
    assert "first" in shown
    assert ("above 6.0 %" in shown) is not good
