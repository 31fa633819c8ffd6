import sys
import wave
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serve_app.core.errors import ModelUnavailable
from serve_app.speakers.recordings import sortformer
from serve_app.speakers.recordings.sortformer import HUB_ID, SortformerDiarizer, parse_segments
from serve_app.speakers.turns import SpeakerCounts, Turn


class FakeNemo:
    """What of NeMo's model class is used; `loaded` and `heard` are what it was given."""

    segments: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.sortformer_modules = SimpleNamespace()
        self.loaded: tuple[str, str] | None = None
        self.heard: tuple[int, int] | None = None

    def from_pretrained(self, name: str, map_location: str) -> "FakeNemo":
        self.loaded = (name, map_location)
        return self

    def restore_from(self, restore_path: str, map_location: str) -> "FakeNemo":
        self.loaded = (restore_path, map_location)
        return self

    def eval(self) -> None:
        pass

    def diarize(self, audio: list[str], batch_size: int) -> list[list[str]]:
        with wave.open(audio[0]) as file:
            self.heard = (file.getframerate(), file.getnframes())
        return [list(self.segments)]


@pytest.fixture
def nemo(monkeypatch: pytest.MonkeyPatch) -> FakeNemo:
    fake = FakeNemo()
    for name in ("nemo", "nemo.collections", "nemo.collections.asr", "nemo.collections.asr.models"):
        module: Any = ModuleType(name)
        module.__path__ = []
        module.SortformerEncLabelModel = fake
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(sortformer, "find_spec", lambda name: object())
    return fake


def silence(duration_s: float) -> Any:
    return np.zeros(round(duration_s * 16_000), np.int16)


def test_without_nemo_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sortformer, "find_spec", lambda name: None)

    with pytest.raises(ModelUnavailable, match=r"pip install 'nemo_toolkit\[asr\]'"):
        SortformerDiarizer()


def test_its_turns_and_who_keeps_the_floor(nemo: FakeNemo) -> None:
    nemo.segments = ("3.5 6.0 speaker_1", "0.5 4.0 speaker_2", "7.0 99.0 speaker_2")
    shares: list[float] = []

    found = SortformerDiarizer(device="cuda").diarize(silence(8), SpeakerCounts(), shares.append)

    assert nemo.loaded == (HUB_ID, "cuda")
    assert nemo.heard == (16_000, 8 * 16_000)
    assert vars(nemo.sortformer_modules)["chunk_len"] == 340
    assert found.turns == (Turn(0.5, 4.0, 0), Turn(3.5, 6.0, 1), Turn(7.0, 8.0, 0))
    assert found.exclusive == (Turn(0.5, 4.0, 0), Turn(4.0, 6.0, 1), Turn(7.0, 8.0, 0))
    assert shares[-1] == 1.0


def test_at_most_as_many_speakers_as_asked_for(nemo: FakeNemo) -> None:
    nemo.segments = ("0.0 1.0 speaker_0", "1.0 5.0 speaker_1", "5.0 8.0 speaker_2")

    found = SortformerDiarizer().diarize(silence(8), SpeakerCounts(most=2), lambda share: None)

    assert found.turns == (Turn(1.0, 5.0, 0), Turn(5.0, 8.0, 1))


def test_no_audio_asks_no_model(nemo: FakeNemo) -> None:
    found = SortformerDiarizer().diarize(silence(0), SpeakerCounts(), lambda share: None)

    assert (found.turns, found.num_speakers, nemo.heard) == ((), 0, None)


def test_a_file_is_loaded_from_the_disk_and_the_hub_is_left_alone_offline(
    nemo: FakeNemo, tmp_path: Path
) -> None:
    weights = tmp_path / "sortformer.nemo"
    weights.write_bytes(b"")

    SortformerDiarizer(str(weights), offline=True)
    assert nemo.loaded == (str(weights), "cpu")

    nemo.loaded = None
    with pytest.raises(ModelUnavailable, match="offline"):
        SortformerDiarizer(offline=True)
    assert nemo.loaded is None


def test_an_answer_in_another_form_is_an_error() -> None:
    with pytest.raises(ModelUnavailable, match="another form"):
        parse_segments(["0.0 1.0"])
