"""Windows of real speech through the real models; skipped where they are not installed."""

from pathlib import Path

import numpy as np
import pytest

from serve_app.audio.recordings import decode_recording
from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import Pcm16
from serve_app.speakers.live.labeller import OnlineLabeller
from serve_app.speakers.ports import WINDOW_SAMPLES, SpeakerWindow, WindowVoices

pytestmark = pytest.mark.extras
pytest.importorskip("torch", reason="`make speakers` installs torch")
pytest.importorskip("torchaudio", reason="`make speakers` installs torchaudio")

SPOKEN = Path(__file__).resolve().parents[4] / "audio" / "spoken"


@pytest.fixture(scope="module")
def analyser():  # type: ignore[no-untyped-def]
    from serve_app.speakers.live.analyser import WindowAnalyser
    from serve_app.speakers.models.encoder import SpeakerEncoder
    from serve_app.speakers.models.segmentation import SpeakerSegmenter
    from serve_app.speakers.models.weights import encoder_path, segmentation_path

    try:
        return WindowAnalyser(SpeakerSegmenter(segmentation_path()), SpeakerEncoder(encoder_path()))
    except ModelUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def visit() -> Pcm16:
    return decode_recording(SPOKEN / "visit.flac").samples


def check(voices: WindowVoices, num_samples: int) -> None:
    num_voices = voices.activity.shape[1]
    assert len(voices.activity) == pytest.approx(num_samples / 16_000 / voices.frame_s, abs=1)
    assert voices.embeddings.shape == (num_voices, 192)
    assert voices.clean_s.shape == (num_voices,)
    assert np.linalg.norm(voices.embeddings, axis=1).max(initial=0) <= 1.001


def test_the_two_voices_of_ten_seconds(analyser, visit: Pcm16) -> None:  # type: ignore[no-untyped-def]
    # The doctor speaks until 3.64 s and from 8.36 s on, the patient in between, from 4.34 to 7.86 s.
    voices = analyser.analyse([SpeakerWindow(visit[:WINDOW_SAMPLES])])[0]
    check(voices, WINDOW_SAMPLES)
    assert voices.activity.shape[1] == 2
    seconds = {round(at / voices.frame_s): at for at in (2.0, 6.0, 9.0)}
    doctor, patient, again = (voices.activity[frame].argmax() for frame in seconds)
    assert doctor == again != patient
    assert voices.embeddings[0] @ voices.embeddings[1] < 0.3
    assert voices.clean_s.sum() == pytest.approx(8.0, abs=1.0)


def test_a_window_is_the_same_in_any_company(analyser, visit: Pcm16) -> None:  # type: ignore[no-untyped-def]
    windows = [SpeakerWindow(visit[start : start + 60_000 + start]) for start in (0, 16_000, 80_000)]
    together = analyser.analyse(windows)
    for window, voices in zip(windows, together, strict=True):
        alone = analyser.analyse([window])[0]
        check(voices, len(window.audio))
        assert np.array_equal(alone.activity, voices.activity)
        assert np.allclose(alone.embeddings, voices.embeddings, atol=1e-4)
        assert np.array_equal(alone.clean_s, voices.clean_s)


@pytest.mark.parametrize("num_samples", [0, 1, 100, 399, 400, 4_000, 16_000])
def test_short_windows(analyser, visit: Pcm16, num_samples: int) -> None:  # type: ignore[no-untyped-def]
    check(analyser.analyse([SpeakerWindow(visit[16_000 : 16_000 + num_samples])])[0], num_samples)


def test_silence_holds_nobody(analyser) -> None:  # type: ignore[no-untyped-def]
    voices = analyser.analyse([SpeakerWindow(np.zeros(WINDOW_SAMPLES, np.int16))])[0]
    assert voices.activity.shape[1] == 0


def test_no_windows_and_too_long_ones(analyser) -> None:  # type: ignore[no-untyped-def]
    assert analyser.analyse([]) == []
    with pytest.raises(ValueError, match="at most 160000 samples"):
        analyser.analyse([SpeakerWindow(np.zeros(WINDOW_SAMPLES + 1, np.int16))])


def test_a_dialogue_live(analyser, visit: Pcm16) -> None:  # type: ignore[no-untyped-def]
    labeller = OnlineLabeller()
    for end in range(80_000, len(visit), 80_000):
        start = max(0, end - WINDOW_SAMPLES)
        labeller.take(start / 16_000, analyser.analyse([SpeakerWindow(visit[start:end])])[0])
    assert labeller.num_speakers == 2
    doctor, patient = labeller.speaker_of(1.0, 3.0), labeller.speaker_of(5.0, 7.0)
    assert (doctor, patient) == (0, 1)
    assert [labeller.speaker_of(*span) for span in ((9, 11), (12, 15), (31, 34))] == [0, 1, 0]
