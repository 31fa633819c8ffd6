import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.live.demo import DoorResult, LiveText, report
from fakes.messages import final, partial
from sotto_client.messages import ErrorMessage

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


def test_interim_and_final_text_as_it_arrives(capsys: pytest.CaptureFixture[str]) -> None:
    live = LiveText()
    live.show(partial("hel", 100.0))
    live.show(partial("", 100.0))
    live.show(final("hello", 1600.0, start_ms=1500.0))
    live.show(ErrorMessage(code="QUEUE_FULL", message="20/20", session_id="s", retryable=True))
    assert capsys.readouterr().out == "  ... hel\n[  1.50 s] hello\nerror QUEUE_FULL: 20/20\n"
