"""Clips of one word, with real models: as right as in the full window, and no word of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from benchmarks.text.short_words import (
    PROMPTS,
    Prompted,
    breaths,
    own_window,
    words_of,
)
from fakes.transcribers import on_ctranslate2
from serve_app.asr.config import LONE_S, SHORT_S, RecogniserConfig
from serve_app.asr.engines.base import DecodeOptions, Hypothesis, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.features import FloatArray
from serve_app.asr.folder import open_model_folder
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.asr.windows import WindowPolicy, plan_window
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.core.jobs import DecodeJob, Role, Transcript
from serve_app.core.samples import Pcm16

pytestmark = pytest.mark.models

Speech = Callable[..., Pcm16]

WORDS = (
    ("stop", "short_4.flac", 0.30, 0.98),
    ("hello", "phone_call.flac", 0.30, 1.00),
    ("please", "phone_call.flac", 2.94, 3.50),
    ("anything", "phone_call.flac", 16.06, 16.74),
    ("tonight", "ward_round.flac", 34.69, 35.37),
    ("midnight", "ward_round.flac", 14.90, 15.48),
    ("good", "ward_round.flac", 9.14, 9.90),
    ("month", "visit.flac", 29.68, 30.18),
    ("doctor", "ward_round.flac", 30.61, 31.25),
    ("pressure", "visit.flac", 27.78, 28.40),
)


def options(policy: WindowPolicy) -> TranscriberOptions:
    guards = GuardOptions(ask_voice=partial(voice_of, detector=load_detector("silero")))
    windows = {Role.FINAL: policy, Role.RECORDING: WindowPolicy(full_window=True)}
    return TranscriberOptions(windows=windows, guards=guards)


@pytest.fixture(scope="module", params=["tiny.en", "base"])
def model(request: pytest.FixtureRequest) -> WhisperTranscriber:
    folder: Path = request.getfixturevalue({"tiny.en": "tiny_folder", "base": "base_folder"}[request.param])
    return on_ctranslate2(request.param, folder, options(own_window()))


def heard(model: WhisperTranscriber, job: DecodeJob) -> str:
    found = model.transcribe([job])[0]
    assert isinstance(found, Transcript), found
    return found.text


def test_lone_words_are_as_right_as_in_the_full_window(model: WhisperTranscriber, speech: Speech) -> None:
    def right(role: Role) -> int:
        return sum(
            words_of(heard(model, DecodeJob(0, role, speech(*cut), "en"))) == [word] for word, *cut in WORDS
        )

    assert right(Role.FINAL) >= right(Role.RECORDING)


@pytest.mark.parametrize("prompt", PROMPTS[1:4], ids=lambda prompt: prompt.name)
def test_no_word_of_a_prompt_comes_out_of_a_lone_word_or_a_breath(
    model: WhisperTranscriber, speech: Speech, prompt: Prompted
) -> None:
    cuts = [speech(*cut) for _, *cut in WORDS[-4:]]
    middles = [audio[len(audio) // 2 :][:2400] for audio in cuts[:2]]
    for audio in [*cuts, *middles, *(breath.samples for breath in breaths()[:2])]:
        bare = heard(model, DecodeJob(0, Role.FINAL, audio, "en"))
        told = DecodeJob(0, Role.FINAL, audio, "en", hotwords=prompt.hotwords, prompt=prompt.prompt)
        gained = set(words_of(heard(model, told))) - set(words_of(bare))
        assert not gained & prompt.expected()


def test_a_hotword_that_the_audio_carries_is_written(tiny_folder: Path, speech: Speech) -> None:
    """Alone in a short clip, where without it another word of the same sound is written."""
    tiny = on_ctranslate2("tiny.en", tiny_folder, options(own_window()))
    audio = speech("visit.flac", 1.82, 2.10)
    job = DecodeJob(0, Role.FINAL, audio, "en")
    assert words_of(heard(tiny, job)) == ["to", "see"]
    told = DecodeJob(0, Role.FINAL, audio, "en", hotwords="Seat, Xylophone")
    assert words_of(heard(tiny, told)) == ["seat"]


def test_longer_speech_is_decoded_once_and_with_its_hotwords(
    tiny_folder: Path, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CTranslate2Engine(tiny_folder)
    tiny = WhisperTranscriber("tiny.en", engine, open_model_folder(tiny_folder), options(own_window()))
    starts: list[int] = []
    generate = engine.generate

    def counted(states: FloatArray, prompts: Sequence[Prompt], how: DecodeOptions) -> list[Hypothesis]:
        starts.extend(len(prompt.start) for prompt in prompts)
        return generate(states, prompts, how)

    monkeypatch.setattr(engine, "generate", counted)
    heard(tiny, DecodeJob(0, Role.FINAL, speech("visit.flac", 4.1, 8.1), "en", hotwords="Kubernetes"))
    assert len(starts) == 1
    assert starts[0] > 3
    heard(tiny, DecodeJob(0, Role.FINAL, speech("short_4.flac", 0.3, 0.98), "en", hotwords="Kubernetes"))
    assert len(starts) > 2
    assert starts[-1] < starts[0]


def test_short_interims_take_no_prompt(tiny: WhisperTranscriber, speech: Speech) -> None:
    def keys(role: Role, seconds: float) -> list[int]:
        audio = speech("visit.flac", 4.1, 4.1 + seconds)
        jobs = [DecodeJob(0, role, audio, "en", hotwords=hotwords) for hotwords in ("", "Kubernetes")]
        return [tiny.batch_key(job).num_prompt_tokens for job in jobs]

    assert keys(Role.INTERIM, 1.0) == [0, 0]
    assert keys(Role.INTERIM, 3.0)[1] > 0
    assert keys(Role.FINAL, 1.0)[1] > 0


def test_prompted_short_words_do_not_depend_on_their_batch(tiny: WhisperTranscriber, speech: Speech) -> None:
    lists = ("lights on, lights off, stop music", "Sotto, Xylophone, Kubernetes", "")
    jobs = [
        DecodeJob(number, Role.FINAL, speech(*cut), "en", hotwords=hotwords)
        for number, (_, *cut) in enumerate(WORDS[:4])
        for hotwords in lists
    ]
    assert [heard(tiny, job) for job in jobs] == [
        found.text for found in tiny.transcribe(jobs) if isinstance(found, Transcript)
    ]


def test_finals_and_recordings_have_the_longer_window_for_lone_words() -> None:
    for on_card in (False, True):
        windows = RecogniserConfig({}).windows(on_card=on_card)
        assert windows[Role.FINAL].short_s == windows[Role.RECORDING].short_s == SHORT_S
        assert windows[Role.FINAL].lone_s == windows[Role.RECORDING].lone_s == LONE_S
        assert windows[Role.INTERIM].short_s == windows[Role.INTERIM].lone_s == 0
        off = RecogniserConfig({}, short_floor_s=0.0).windows(on_card=on_card)
        assert off[Role.FINAL].lone_s == 0


def test_lone_words_are_encoded_in_full_and_short_sentences_in_part() -> None:
    policy = WindowPolicy(floor_s=1.0, short_s=SHORT_S, short_floor_s=10.0, lone_s=LONE_S)
    frames = [plan_window(round(s * 16_000), "en", policy).num_frames for s in (0.3, 1.2, 1.3, 2.0, 2.1)]
    assert frames == [3_000, 3_000, 1_000, 1_000, 260]
