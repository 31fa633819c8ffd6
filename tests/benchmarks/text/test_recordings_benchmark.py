from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.clips import Clip
from benchmarks.text import recordings
from fakes.speech_server import running_fake_server
from serve_app.models.resolve import resolve_model

CLIP = Clip("a", np.zeros(16_000, np.int16), "hello")


class ScriptedPeer:
    """Takes a made-up time and counts its turns."""

    def __init__(self) -> None:
        self.calls = 0

    def transcribe(self, path: Path) -> tuple[str, float]:
        self.calls += 1
        assert path.is_file()
        return "hallo", float(self.calls)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_fake_server() as url:
        yield url


def test_the_two_take_turns_and_medians_are_compared(url: str, tmp_path: Path) -> None:
    recording = tmp_path / "r.wav"
    reference = recordings.write_recording(recording, [CLIP], 2.0)
    options = recordings.parse_arguments(["--rounds", "3"])
    peer = ScriptedPeer()
    result = recordings.compare(url, peer, recording, reference, options)  # type: ignore[arg-type]
    assert peer.calls == 3
    assert result["theirs_s"] == 2.0
    assert len(result["ours_all_s"]) == 3
    assert result["speed_ratio"] == pytest.approx(2.0 / result["ours_s"], rel=0.1)
    assert result["audio_s"] == 2.0
    assert (result["wer"], result["wer_theirs"]) == (0.5, 1.0)
    recordings.show(result)


@pytest.mark.models
def test_the_peer_is_faster_whispers_own_pipeline() -> None:
    from benchmarks.clips import SPOKEN_DIR
    from benchmarks.text.peer_batched import PeerOptions, batched_peer

    path = resolve_model("tiny.en").path
    with batched_peer(PeerOptions(path, num_threads=1, beam_size=1, language="en")) as peer:
        text, seconds = peer.transcribe(SPOKEN_DIR / "short_1.flac")
    assert "quick brown fox" in text
    assert 0 < seconds < 30


@pytest.mark.parametrize("arguments", [["--minutes", "0"], ["--rounds", "0"], ["--beam", "0"]])
def test_senseless_options(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        recordings.parse_arguments(arguments)
