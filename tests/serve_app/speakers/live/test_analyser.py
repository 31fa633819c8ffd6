"""Windows of real speech through the real models; skipped where they are not installed."""

from pathlib import Path

import numpy as np
import pytest

from serve_app.audio.recordings import decode_recording
from serve_app.core.errors import ModelUnavailable
from serve_app.core.samples import Pcm16
from serve_app.speakers.live.analyser import Activity, Stretch, regroup, stretches_alone
from serve_app.speakers.live.clustering import Floats
from serve_app.speakers.live.labeller import OnlineLabeller
from serve_app.speakers.ports import WINDOW_SAMPLES, SpeakerWindow, WindowVoices

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
