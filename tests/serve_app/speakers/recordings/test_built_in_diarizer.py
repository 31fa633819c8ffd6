"""The built-in models on real speech: segmentation-3.0 and CAM++ out of the package."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.assembly.speakers import load_diarizer
from serve_app.core.errors import ModelUnavailable
from serve_app.settings import Settings
from serve_app.speakers.models.weights import encoder_path, segmentation_path
from serve_app.speakers.turns import Diarization, SpeakerCounts

pytestmark = pytest.mark.extras
SPOKEN = Path(__file__).resolve().parents[4] / "audio" / "spoken"
EVERYONE = SpeakerCounts()


@pytest.fixture(scope="module")
def built_in() -> Any:
    try:
        return load_diarizer(Settings(diarization_threads=1))
    except ModelUnavailable as error:
        pytest.skip(str(error))


def read(name: str) -> Any:
    import soundfile

    audio, rate_hz = soundfile.read(SPOKEN / name, dtype="int16")
    assert rate_hz == 16_000
    return audio


def read_rttm(name: str) -> list[tuple[float, float, str]]:
    fields = [line.split() for line in (SPOKEN / name).read_text(encoding="utf-8").splitlines()]
    return [(float(field[3]), float(field[3]) + float(field[4]), field[7]) for field in fields]


def nobody(share: float) -> None:
    """Hears no progress."""


def speaker_of(found: Diarization, start_s: float, end_s: float) -> int:
    """Whose most of this stretch is."""
    shared = [0.0] * found.num_speakers
    for turn in found.exclusive:
        shared[turn.speaker] += max(0.0, min(end_s, turn.end_s) - max(start_s, turn.start_s))
    return shared.index(max(shared))


@pytest.mark.parametrize(("name", "num_speakers"), [("phone_call", 2), ("ward_round", 4), ("short_0", 1)])
def test_who_spoke_in_a_dialogue(built_in: Any, name: str, num_speakers: int) -> None:
    shares: list[float] = []

    found = built_in.diarize(read(f"{name}.flac"), EVERYONE, shares.append)

    assert found.num_speakers == num_speakers
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    pairs: dict[str, set[int]] = {}
    for start_s, end_s, speaker in read_rttm(f"{name}.rttm"):
        pairs.setdefault(speaker, set()).add(speaker_of(found, start_s, end_s))
    # Everyone has one number, and nobody else has it.
    assert all(len(numbers) == 1 for numbers in pairs.values())
    assert len(set.union(*pairs.values())) == num_speakers
    assert all(
        one.end_s <= other.start_s for one, other in zip(found.exclusive, found.exclusive[1:], strict=False)
    )


@pytest.mark.parametrize("counts", [SpeakerCounts(exact=2), SpeakerCounts(most=2)])
def test_fewer_speakers_than_there_are(built_in: Any, counts: SpeakerCounts) -> None:
    audio = read("ward_round.flac")[: 20 * 16_000]

    assert built_in.diarize(audio, counts, nobody).num_speakers == 2


def test_more_speakers_than_there_are(built_in: Any) -> None:
    assert built_in.diarize(read("phone_call.flac"), SpeakerCounts(least=3), nobody).num_speakers == 3


@pytest.mark.parametrize("num_samples", [0, 1, 100, 8_000, 12 * 16_000])
def test_where_nobody_speaks(built_in: Any, num_samples: int) -> None:
    quiet = (np.random.default_rng(0).normal(size=num_samples) * 3).astype(np.int16)
    shares: list[float] = []

    found = built_in.diarize(quiet, EVERYONE, shares.append)

    assert found == Diarization((), (), 0)
    assert shares[-1] == 1.0


def test_a_cut_out_word_has_a_speaker_and_ends_with_the_audio(built_in: Any) -> None:
    word = read("phone_call.flac")[16_000 : 16_000 + 12_000]

    found = built_in.diarize(word, EVERYONE, nobody)

    assert found.num_speakers == 1
    assert found.turns[-1].end_s <= 0.75


def test_what_waits_goes_first_and_can_end_the_work(built_in: Any) -> None:
    class Stopped(Exception):
        pass

    num_pauses = 0

    def pause() -> None:
        nonlocal num_pauses
        num_pauses += 1
        if num_pauses == 3:
            raise Stopped

    with pytest.raises(Stopped):
        built_in.diarize(read("phone_call.flac"), EVERYONE, nobody, pause)
    assert built_in.diarize(read("short_0.flac"), EVERYONE, nobody).num_speakers == 1


def test_reconstruction_is_that_of_pyannote(built_in: Any) -> None:
    """Ours keeps no array of all windows by all speakers; the frames are the same."""
    from pyannote.audio.pipelines import SpeakerDiarization
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    random = np.random.default_rng(5)
    pipeline = built_in._pipeline
    activity = (random.random((7, 589, 5)) < 0.4).astype(np.uint8)
    speakers = random.permuted(np.tile(np.arange(5), (7, 1)), axis=1) % 4
    windows = SlidingWindowFeature(activity, SlidingWindow(start=0.0, duration=10.0, step=1.0))
    frames = pipeline._segmentation.model.receptive_field
    count = pipeline.speaker_count(windows, frames, warm_up=(0.0, 0.0))
    count.data = np.minimum(count.data, 1)

    ours = pipeline.reconstruct(windows, speakers, count)
    floats = SlidingWindowFeature(activity.astype(np.float64), windows.sliding_window)
    theirs = SpeakerDiarization.reconstruct(pipeline, floats, speakers, count)

    # Where speakers are heard alike, either may be named.
    shared = min(len(ours.data), len(theirs.data))
    assert np.array_equal(ours.data.sum(1)[:shared], theirs.data.sum(1)[:shared])
    assert (ours.data[:shared] == theirs.data[:shared]).all(axis=1).mean() > 0.9
    drawn = SpeakerDiarization.to_annotation(ours)
    assert [(round(s.start, 6), round(s.end, 6), k) for s, _, k in drawn.itertracks(yield_label=True)] == [
        (round(s.start, 6), round(s.end, 6), k)
        for s, _, k in pipeline.to_annotation(ours).itertracks(yield_label=True)
    ]


def test_embeddings_of_campplus_stay_what_they_are() -> None:
    """A ramp of features, its embedding's first numbers; the network and its weights are as they were."""
    torch = pytest.importorskip("torch")
    try:
        path = encoder_path()
    except ModelUnavailable as error:
        pytest.skip(str(error))
    from serve_app.speakers.models.campplus import load_campplus

    features = torch.sin(torch.arange(3 * 80 * 60, dtype=torch.float32) * 0.01).reshape(3, 60, 80)
    with torch.no_grad():
        embeddings = load_campplus(path)(features)

    assert embeddings.shape == (3, 192)
    assert (embeddings < 0).float().mean() > 0.3, "nothing clips it at zero"
    assert embeddings[0, :5].tolist() == pytest.approx(GOLDEN, abs=2e-3)


GOLDEN = [-0.9744, -0.2134, 0.0994, -0.6852, -0.6935]


def test_one_pass_gives_the_whole_and_its_parts(built_in: Any) -> None:
    encoder = built_in._encoder
    audio = read("visit.flac")[: 10 * 16_000].astype(np.float32) / 32768
    features = encoder.features(audio)

    whole, doctor, patient = encoder.embed_parts(features, [(60, 360), (450, 780)])
    alone = encoder.embed_features([features, features[60:360], features[450:780], features[:0]])

    assert features.shape == (998, 80)
    assert np.linalg.norm(alone, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-5)
    assert whole @ alone[0] == pytest.approx(1, abs=1e-4)
    assert doctor @ alone[1] > 0.7
    assert patient @ alone[2] > 0.7
    assert alone[1] @ alone[2] < 0.4


def test_voices_of_a_window_and_frames_of_a_voice(built_in: Any) -> None:
    from serve_app.speakers.models.segmentation import SpeakerSegmenter
    from serve_app.speakers.recordings.voices import MAX_VOICES, tell_apart

    segmenter = SpeakerSegmenter(segmentation_path())
    window = read("ward_round.flac")[11 * 16_000 : 21 * 16_000].astype(np.float32) / 32768
    activity = segmenter.activities(window[None])

    voices = tell_apart(built_in._encoder, window, activity[0])

    assert activity.shape == (1, 589, 3)
    assert activity.dtype == np.uint8
    assert voices.activity.shape == (589, MAX_VOICES)
    assert (voices.activity.sum(1) == activity[0].sum(1)).all()
    assert (np.linalg.norm(voices.embeddings, axis=1) > 0).tolist() == voices.activity.any(0).tolist()
    with pytest.raises(ValueError, match="160000"):
        segmenter.activities(window[None, :-1])


def test_files_that_are_no_models(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("pyannote.audio", exc_type=ImportError)
    from serve_app.speakers.models.campplus import load_campplus
    from serve_app.speakers.models.segmentation import load_segmentation

    class Opened:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": Opened(), "hyper_parameters": {}}, tmp_path / "bad.bin")
    torch.save({"head.conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")

    with pytest.raises(ModelUnavailable, match=r"bad\.bin is no checkpoint"):
        load_segmentation(tmp_path / "bad.bin")
    with pytest.raises(ModelUnavailable, match=r"other\.pt holds no weights"):
        load_campplus(tmp_path / "other.pt")
    assert not (tmp_path / "ran").exists()


def test_nothing_is_reported_to_anyone(built_in: Any) -> None:
    import os

    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"
    assert not is_metrics_enabled()
