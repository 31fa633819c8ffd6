"""The transcriber, on the default engine with real models and real speech."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ctranslate2
import jiwer
import numpy as np
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from fakes.transcribers import on_ctranslate2
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.recogniser import Recogniser
from serve_app.asr.scheduler import SchedulerLimits
from serve_app.asr.whisper import TranscriberOptions, WhisperTranscriber
from serve_app.asr.windows import WindowPolicy
from serve_app.core.errors import ModelUnavailable
from serve_app.core.jobs import (
    AttentionRule,
    DecodeFailure,
    DecodeJob,
    DecodeResult,
    Role,
    Task,
    Transcript,
)
from serve_app.core.samples import Pcm16

pytestmark = pytest.mark.models

Speech = Callable[..., Pcm16]
normalise = EnglishTextNormalizer()


def text_of(result: DecodeResult) -> Transcript:
    assert isinstance(result, Transcript), result
    return result


def single(engine: WhisperTranscriber, job: DecodeJob) -> Transcript:
    return text_of(engine.transcribe([job])[0])


def word_error_rate(engine: WhisperTranscriber, turns: list[tuple[Pcm16, str]], role: Role) -> float:
    heard = [single(engine, DecodeJob(0, role, audio, "en")).text for audio, _ in turns]
    return float(jiwer.wer([normalise(text) for _, text in turns], [normalise(text) for text in heard]))


def test_short_windows_read_as_well_as_full_ones(tiny_folder: Path, turns: list[tuple[Pcm16, str]]) -> None:
    windows = {Role.RECORDING: WindowPolicy(full_window=True), Role.INTERIM: WindowPolicy(tail_s=5.0)}
    engine = on_ctranslate2("tiny.en", tiny_folder, TranscriberOptions(windows=windows))
    turns = turns[::2]
    full = word_error_rate(engine, turns, Role.RECORDING)
    assert full < 0.10
    assert word_error_rate(engine, turns, Role.FINAL) <= full + 0.02
    assert word_error_rate(engine, turns, Role.INTERIM) <= full + 0.03


def test_text_equals_that_of_faster_whisper_on_a_full_window(tiny_folder: Path, speech: Speech) -> None:
    from faster_whisper import WhisperModel

    options = TranscriberOptions(windows={Role.FINAL: WindowPolicy(full_window=True)})
    engine = on_ctranslate2("tiny.en", tiny_folder, options)
    audio = speech("visit.flac", 0.3, 15.5)
    reference = WhisperModel(str(tiny_folder), device="cpu", compute_type="int8", cpu_threads=1)
    segments, _ = reference.transcribe(
        np.pad(audio.astype(np.float32) / 32768, (0, 480_000 - len(audio))),
        beam_size=1,
        without_timestamps=True,
        word_timestamps=True,
        temperature=0.0,
    )
    segment = next(iter(segments))
    ours = single(engine, DecodeJob(1, Role.FINAL, audio, "en", word_timestamps=True))

    assert ours.text == segment.text.strip()
    assert ours.avg_logprob == pytest.approx(segment.avg_logprob, abs=0.02)
    assert ours.no_speech_prob == pytest.approx(segment.no_speech_prob, abs=0.02)
    assert [word.word for word in ours.words] == [word.word for word in segment.words]
    gaps = [abs(a.start_s - b.start) for a, b in zip(ours.words, segment.words, strict=True)]
    assert np.median(gaps) <= 0.06
    assert np.percentile(gaps, 90) <= 0.4


@pytest.mark.parametrize("role", list(Role))
def test_words_are_in_order_in_range_and_spell_the_text(
    tiny: WhisperTranscriber, turns: list[tuple[Pcm16, str]], role: Role
) -> None:
    for audio, _ in turns[:8]:
        heard = single(tiny, DecodeJob(0, role, audio, "en", word_timestamps=True))
        times = [time for word in heard.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert min(times) >= 0
        assert max(times) <= len(audio) / 16_000 + 0.001
        assert all(0 <= word.probability <= 1 for word in heard.words)
        assert "".join(word.word for word in heard.words).strip() == heard.text


def test_a_batch_of_languages_tasks_and_prompts_equals_its_singles(
    base: WhisperTranscriber, speech: Speech
) -> None:
    starts = (0.4, 4.2, 8.3, 11.7, 15.7, 19.3, 23.5, 26.2)
    audio = [speech("visit.flac", start, start + 3.4) for start in starts]
    languages = ("en", "de", None, "pt", "en", "fr", "es", "en")
    prompt = "The patient has a dry cough."
    jobs = [
        DecodeJob(
            job_id=n,
            role=Role.FINAL,
            audio=audio[n],
            language=languages[n],
            task=Task.TRANSLATE if n == 3 else Task.TRANSCRIBE,
            prompt=prompt if n in (0, 4, 5) else "",
            word_timestamps=n in (0, 2, 5),
        )
        for n in range(8)
    ]
    together = base.transcribe(jobs)
    alone = [base.transcribe([job])[0] for job in jobs]

    assert len({base.batch_key(job) for job in jobs}) < len(jobs)
    for one, other in zip(together, alone, strict=True):
        a, b = text_of(one), text_of(other)
        assert (a.job_id, a.text, a.language) == (b.job_id, b.text, b.language)
        assert [word.word for word in a.words] == [word.word for word in b.words]
        assert a.avg_logprob == pytest.approx(b.avg_logprob, abs=1e-3)
    assert text_of(together[0]).words


async def test_eight_sessions_in_eight_languages_with_prompts_share_one_batch(
    base_folder: Path, speech: Speech
) -> None:
    """What the batch key allows: equal windows and equally long prompts, whatever language and words."""
    options = TranscriberOptions(windows={Role.FINAL: WindowPolicy(bucket_frames=200)}, prompt_lengths=(32,))
    base = on_ctranslate2("base", base_folder, options)
    topics = ("heart", "blood", "cough", "knee", "sugar", "sleep", "pollen", "travel")
    languages = ("en", "de", "fr", "es", "pt", "it", "nl", "pl")
    starts = (0.4, 4.2, 8.3, 11.7, 15.7, 19.3, 23.5, 26.2)
    jobs = [
        DecodeJob(
            job_id=n,
            role=Role.FINAL,
            audio=speech("visit.flac", starts[n], starts[n] + 3.4),
            language=languages[n],
            prompt=f"The patient asks about {topics[n]}. " * 8,
            hotwords=topics[n],
            word_timestamps=True,
        )
        for n in range(8)
    ]
    alone = [text_of(base.transcribe([job])[0]) for job in jobs]
    limits = SchedulerLimits(num_workers=1, max_batch={Role.FINAL: 8})
    recogniser = Recogniser({Role.FINAL: base}, limits)
    together = {result.job_id: text_of(result) async for result in recogniser.decode(jobs)}
    assert recogniser.stats().roles[Role.FINAL].num_batches == 1
    await recogniser.close()
    for one in alone:
        other = together[one.job_id]
        assert other.timing.batch_size == 8
        assert (one.text, one.language) == (other.text, other.language)
        assert [w.word for w in one.words] == [w.word for w in other.words]
        assert [w.start_s for w in one.words] == pytest.approx([w.start_s for w in other.words], abs=0.021)
    assert len({one.text for one in alone}) == 8


def test_text_goes_on_behind_a_forced_prefix(tiny: WhisperTranscriber, speech: Speech) -> None:
    job = DecodeJob(1, Role.FINAL, speech("visit.flac", 0.3, 7.0), "en", word_timestamps=True)
    plain = single(tiny, job)
    words = plain.text.split()
    for count in (1, len(words) // 2, len(words)):
        prefix = " ".join(words[:count])
        forced = single(tiny, replace(job, prefix=prefix))
        assert forced.text == plain.text
        assert [w.word for w in forced.words] == [w.word for w in plain.words]
    other = single(tiny, replace(job, prefix="Goodbye everyone,"))
    assert other.text.startswith("Goodbye everyone, ")


def test_prefixes_of_different_lengths_share_a_batch(tiny: WhisperTranscriber, speech: Speech) -> None:
    audio = speech("visit.flac", 0.3, 7.0)
    words = single(tiny, DecodeJob(0, Role.FINAL, audio, "en")).text.split()
    jobs = [DecodeJob(n, Role.FINAL, audio, "en", prefix=" ".join(words[:n])) for n in (0, 2, 5)]
    together = tiny.transcribe(jobs)
    assert len({tiny.batch_key(job) for job in jobs}) == 1
    for job, result in zip(jobs, together, strict=True):
        assert text_of(result).text == single(tiny, job).text
        assert text_of(result).avg_logprob == pytest.approx(single(tiny, job).avg_logprob, abs=1e-3)


def test_attention_is_refused_where_the_engine_gives_none(tiny: WhisperTranscriber, speech: Speech) -> None:
    job = DecodeJob(1, Role.INTERIM, speech("short_0.flac"), "en", attention=AttentionRule())
    (failure,) = tiny.transcribe([job])
    assert isinstance(failure, DecodeFailure)
    assert "onnx, torch or mlx engine" in failure.message
    assert not failure.retryable


def test_a_prompt_changes_how_words_are_spelled(base: WhisperTranscriber, speech: Speech) -> None:
    job = DecodeJob(1, Role.FINAL, speech("visit.flac", 0.3, 3.8), "en")
    plain = single(base, job).text
    shouted = single(base, replace(job, prompt="GOOD EVENING, HOW ARE YOU? I AM FINE, THANK YOU.")).text
    assert shouted != plain
    assert normalise(shouted) == normalise(plain)


def test_prompts_are_cut_to_lengths_that_batch(tiny_folder: Path, speech: Speech) -> None:
    engine = on_ctranslate2("tiny.en", tiny_folder, TranscriberOptions(prompt_lengths=(32, 64)))
    job = DecodeJob(1, Role.FINAL, speech("short_0.flac"), "en")
    counts = [
        engine.batch_key(replace(job, prompt="cough " * n)).num_prompt_tokens for n in (0, 5, 40, 90, 3000)
    ]
    assert counts[0] == 0
    assert 5 <= counts[1] < 32
    assert counts[2:] == [32, 64, 64]


def test_the_longest_prompt_leaves_room_for_text(tiny: WhisperTranscriber, speech: Speech) -> None:
    audio = speech("visit.flac", 0.0, 29.0)
    heard = single(tiny, DecodeJob(1, Role.FINAL, audio, "en", prompt="We talk about a cough. " * 300))
    assert len(heard.text.split()) > 40


@pytest.mark.parametrize("seconds", [1.5, 3.0, 5.0])
def test_languages_are_detected(
    base: WhisperTranscriber, speech: Speech, german: Pcm16, seconds: float
) -> None:
    english = speech("visit.flac", 4.3, 4.3 + seconds)
    jobs = [
        DecodeJob(1, Role.FINAL, english, None),
        DecodeJob(2, Role.FINAL, german[: len(english)], None),
    ]
    results = [text_of(result) for result in base.transcribe(jobs)]
    assert [result.language for result in results] == ["en", "de"]
    assert all(0.3 < result.language_probability <= 1 for result in results)


def test_english_models_take_everything_for_english_and_refuse_other_languages(
    tiny: WhisperTranscriber, speech: Speech
) -> None:
    audio = speech("short_0.flac")
    detected, refused = tiny.transcribe(
        [DecodeJob(1, Role.FINAL, audio, None), DecodeJob(2, Role.FINAL, audio, "de")]
    )
    assert (text_of(detected).language, text_of(detected).language_probability) == ("en", 1.0)
    assert isinstance(refused, DecodeFailure)
    assert "tiny.en" in refused.message
    assert "'de'" in refused.message


def test_bad_jobs_fail_alone(tiny: WhisperTranscriber, speech: Speech) -> None:
    audio = speech("short_1.flac")
    jobs = [
        DecodeJob(1, Role.FINAL, audio, "en"),
        DecodeJob(2, Role.FINAL, audio.astype(np.float32), "en"),
        DecodeJob(3, Role.FINAL, np.zeros(30 * 16_000 + 1, np.int16), "en"),
        DecodeJob(4, Role.FINAL, audio, "klingon"),
        DecodeJob(5, Role.FINAL, audio, "en", beam_size=0),
        DecodeJob(6, Role.FINAL, audio, "en"),
    ]
    results = tiny.transcribe(jobs)
    assert [result.job_id for result in results] == [1, 2, 3, 4, 5, 6]
    assert [isinstance(result, DecodeFailure) for result in results] == [False, True, True, True, True, False]
    assert not any(result.retryable for result in results if isinstance(result, DecodeFailure))
    assert text_of(results[0]).text == text_of(results[5]).text != ""


def test_an_item_on_which_the_model_fails_does_not_take_its_batch_along(
    tiny: WhisperTranscriber, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = speech("short_1.flac")
    poisoned = audio[::-1].copy()
    encode = CTranslate2Engine.encode
    from serve_app.asr.features import log_mel
    from serve_app.asr.windows import plan_window

    poison = log_mel(poisoned, plan_window(len(poisoned), "en", WindowPolicy()).num_frames)

    def fail_on_poison(engine: CTranslate2Engine, mels: np.ndarray) -> np.ndarray:
        if any(np.array_equal(mel, poison) for mel in mels):
            raise RuntimeError("cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED")
        return encode(engine, mels)

    monkeypatch.setattr(CTranslate2Engine, "encode", fail_on_poison)
    jobs = [DecodeJob(n, Role.FINAL, poisoned if n == 1 else audio, "en") for n in range(3)]
    results = tiny.transcribe(jobs)
    assert [isinstance(result, DecodeFailure) for result in results] == [False, True, False]
    failure = results[1]
    assert isinstance(failure, DecodeFailure)
    assert failure.retryable


def test_a_runaway_is_decoded_again_in_full(tiny: WhisperTranscriber, speech: Speech) -> None:
    """Without any silence behind the speech the decoder runs on; the second decode stops where it should."""
    windows = {Role.FINAL: WindowPolicy(pad_s=0, floor_s=0, tail_s=0)}
    folder = Path(tiny.info.path)
    guarded = on_ctranslate2("tiny.en", folder, TranscriberOptions(windows=windows))
    bare = on_ctranslate2(
        "tiny.en", folder, TranscriberOptions(windows=windows, guards=GuardOptions(enabled=False))
    )
    job = DecodeJob(1, Role.FINAL, speech("visit.flac", 11.78, 15.39), "en", word_timestamps=True)
    kept = single(guarded, job)
    assert len(normalise(single(bare, job).text)) > 2 * len(normalise(kept.text))
    assert normalise(kept.text) == normalise(single(tiny, job).text)
    assert "".join(word.word for word in kept.words).strip() == kept.text


def test_an_interim_is_not_tried_again_but_its_loop_is_cut(tiny: WhisperTranscriber, speech: Speech) -> None:
    windows = {Role.INTERIM: WindowPolicy(pad_s=0, floor_s=0, tail_s=0)}
    bare = on_ctranslate2("tiny.en", Path(tiny.info.path), TranscriberOptions(windows=windows))
    audio = speech("visit.flac", 11.78, 15.39)
    cut = single(bare, DecodeJob(1, Role.INTERIM, audio, "en", word_timestamps=True))
    assert cut.looped
    assert cut.temperature == 0
    assert "".join(word.word for word in cut.words).strip() == cut.text
    assert len(cut.text) < 2 * len(single(tiny, DecodeJob(1, Role.FINAL, audio, "en")).text)


@pytest.mark.parametrize("num_samples", [0, 1, 1_600, 48_000, 480_000])
def test_silence_has_no_text(tiny: WhisperTranscriber, num_samples: int) -> None:
    heard = single(
        tiny, DecodeJob(1, Role.FINAL, np.zeros(num_samples, np.int16), "en", word_timestamps=True)
    )
    assert (heard.text, heard.words) == ("", ())


def test_noise_has_no_text(tiny: WhisperTranscriber, base: WhisperTranscriber, noise: Pcm16) -> None:
    for engine in (tiny, base):
        assert single(engine, DecodeJob(1, Role.FINAL, noise, "en", word_timestamps=True)).text == ""


@pytest.mark.parametrize("num_samples", [160, 320, 1_000, 479_999, 480_000])
def test_every_length_up_to_thirty_seconds_is_decoded(
    tiny: WhisperTranscriber, speech: Speech, num_samples: int
) -> None:
    audio = speech("visit.flac", 1.0)[:num_samples]
    assert single(tiny, DecodeJob(1, Role.FINAL, audio, "en", word_timestamps=True)).job_id == 1


def test_beams_are_per_job(tiny: WhisperTranscriber, speech: Speech) -> None:
    audio = speech("dictation.flac", 0.0, 6.0)
    greedy, beam = tiny.transcribe(
        [DecodeJob(1, Role.FINAL, audio, "en"), DecodeJob(2, Role.FINAL, audio, "en", beam_size=5)]
    )
    assert text_of(beam).avg_logprob >= text_of(greedy).avg_logprob - 0.02
    assert text_of(beam).text


def test_compute_types_that_a_cpu_lacks_become_int8(tiny_folder: Path) -> None:
    for wanted in ("float16", "int8_float16", "auto", "default"):
        engine = on_ctranslate2("t", tiny_folder, device="cpu", compute_type=wanted)
        assert engine.info.compute_type == "int8"


@pytest.mark.skipif(ctranslate2.get_cuda_device_count() > 0, reason="a CUDA device is there")
def test_a_card_that_is_not_there_is_named(tiny_folder: Path) -> None:
    with pytest.raises(ModelUnavailable, match="CUDA"):
        on_ctranslate2("t", tiny_folder, device="cuda")


def test_info_tells_what_the_models_can(tiny: WhisperTranscriber, base: WhisperTranscriber) -> None:
    assert tiny.info.languages == {"en"}
    assert not tiny.info.multilingual
    assert {"en", "de", "he", "jw", "zh"} <= base.info.languages
    assert len(base.info.languages) == 99
    assert base.info.can(None, Task.TRANSLATE)
    assert not tiny.info.can(None, Task.TRANSCRIBE)
    assert not tiny.info.can("de", Task.TRANSCRIBE)


def test_the_language_of_short_clips_is_found(base: WhisperTranscriber, german_clips: list[Pcm16]) -> None:
    """Ten German clips of 2.6 to 7 s: at least nine."""
    jobs = [DecodeJob(n, Role.FINAL, audio) for n, audio in enumerate(german_clips)]
    found = [single(base, job).language for job in jobs]
    assert found.count("de") >= 9
