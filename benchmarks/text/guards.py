"""What the guards keep and drop: real speech, and sounds without a word.

    python -m benchmarks.text.guards --models tiny.en base --clips CLIPS_WITH_MANIFEST --noise RECORDINGS

Every row decodes whole windows with voice activity detection off, as a session without endpointing does:
`texts` that Whisper writes, those left by its own rule (`no_speech_prob` > 0.6, `avg_logprob` < -1), those
`kept` by the guards, retries included. Speech should keep all of its texts, sounds none. `dropped` says why;
for speech, `right` counts the dropped texts that have at least half of their words right. `retries` are
decodes on top, `asked` the windows of which the voice activity detector was asked.
Sounds come from `tests/fakes/sounds.py`; another `--seed` gives others of the same kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.clips import AUDIO_SUFFIXES, Clip, select_clips
from benchmarks.report import command_line, print_columns
from benchmarks.scoring import word_errors
from serve_app.asr.engines.base import DecodeOptions, Prompt
from serve_app.asr.engines.ctranslate2_engine import CTranslate2Engine
from serve_app.asr.features import MAX_FRAMES, log_mel
from serve_app.asr.folder import open_model_folder
from serve_app.asr.guards import RETRIES, DecodeEvidence, Retry, Verdict, best_attempt, judge, needs_fallback
from serve_app.asr.heard import room_tone
from serve_app.asr.repetition import without_loops
from serve_app.asr.vocabulary import Vocabulary
from serve_app.asr.windows import MAX_AUDIO_S, WindowPolicy, plan_window
from serve_app.assembly.recognisers import FINAL_PAD_S, FINAL_TAIL_S
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.audio.recordings import decode_recording
from serve_app.core.jobs import Task
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.models import resolve_model
from serve_app.vad.detector import VoiceDetector
from tests.fakes import sounds


class RawDecoder:
    """A model's text without guards, in the windows that finals have, as evidence for the guards: on
    CTranslate2, int8, one worker of one thread."""

    def __init__(self, model: str) -> None:
        folder = open_model_folder(resolve_model(model, offline=True).path)
        self._engine = CTranslate2Engine(folder.path, device="cpu", compute_type="int8")
        shape = self._engine.dimensions
        self.multilingual = shape.multilingual
        self._vocabulary = Vocabulary(folder.tokenizer_path, multilingual=shape.multilingual)
        times = self._vocabulary.timestamp_ids(shape.vocabulary_size)
        self._options = DecodeOptions(
            suppressed=(*folder.suppressed, *times), suppressed_first=folder.suppressed_first
        )
        self._num_mels = shape.num_mels
        self._tail = self._engine.encode(log_mel(room_tone(MAX_AUDIO_S), MAX_FRAMES, self._num_mels)[None])

    def decode(self, audio: Pcm16, language: str = "en", retry: Retry | None = None) -> DecodeEvidence:
        """At most 30 s of audio."""
        retry = retry or Retry()
        policy = WindowPolicy(pad_s=FINAL_PAD_S, tail_s=FINAL_TAIL_S, full_window=retry.full_window)
        window = plan_window(len(audio), language, policy)
        states = self._engine.encode(log_mel(audio, window.num_frames, self._num_mels)[None])
        start = self._vocabulary.start_sequence(language, Task.TRANSCRIBE)
        prompt = Prompt((*start, self._vocabulary.no_timestamps), self._engine.num_states(states))
        options = replace(
            self._options,
            max_new_tokens=window.max_new_tokens,
            temperature=retry.temperature,
            beam_size=retry.beam_size,
        )
        spliced = self._engine.splice(states, self._tail, window.num_states)
        (found,) = self._engine.generate(spliced, [prompt], options)
        return DecodeEvidence(
            text=self._vocabulary.decode(found.ids).strip(),
            avg_logprob=found.avg_logprob,
            no_speech_prob=found.no_speech_prob,
            audio_s=len(audio) / SAMPLE_RATE_HZ,
            ended=found.ended,
        )


@dataclass(slots=True)
class Row:
    """Counts of one kind of audio."""

    num_windows: int = 0
    num_texts: int = 0
    num_whisper: int = 0
    num_kept: int = 0
    num_right: int = 0
    num_retries: int = 0
    num_asked: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def cells(self) -> list[str]:
        why = ", ".join(f"{name} {count}" for name, count in self.reasons.most_common())
        counts = (self.num_windows, self.num_texts, self.num_whisper, self.num_kept, self.num_right)
        return [*map(str, counts), str(self.num_retries), str(self.num_asked), why]


def guarded(
    decoder: RawDecoder, audio: Pcm16, language: str, detector: VoiceDetector
) -> tuple[list[DecodeEvidence], DecodeEvidence, Verdict]:
    """All attempts at one window, what is left of the best one, and the verdict on it."""
    attempts = [decoder.decode(audio, language)]
    reason = needs_fallback(attempts[0])
    for retry in RETRIES[reason] if reason else ():
        attempts.append(decoder.decode(audio, language, retry))
        if needs_fallback(attempts[-1]) is None:
            break
    best = attempts[best_attempt(attempts)]
    cut = without_loops(best.text, spaced=best.spaced, ran_on=not best.ended)
    best = replace(best, text=cut, looped=cut != best.text)
    return attempts, best, judge(best, lambda: voice_of(audio, detector))


def measure(
    row: Row, decoder: RawDecoder, audio: Pcm16, language: str, said: str, detector: VoiceDetector
) -> None:
    attempts, best, verdict = guarded(decoder, audio, language, detector)
    first = attempts[0]
    row.num_windows += 1
    row.num_texts += bool(first.text)
    row.num_whisper += bool(first.text) and not (first.no_speech_prob > 0.6 and first.avg_logprob < -1.0)
    row.num_kept += verdict.keep and bool(best.text)
    row.num_retries += len(attempts) - 1
    row.num_asked += verdict.voice is not None
    if verdict.reason is not None:
        row.reasons[verdict.reason] += 1
        row.num_right += bool(said) and word_errors([said], [best.text]).rate <= 0.5


def heard_sounds(voices: Sequence[Pcm16], noise: Path | None, seed: int) -> Iterator[tuple[str, Pcm16]]:
    """Kind and window: generated sounds of several lengths, then the recordings in `noise`."""
    for number, seconds in enumerate((1.0, 2.0, 4.0, 9.0, 18.0, 30.0)):
        for name, audio in sounds.sounds(seconds, voices, seed + number):
            yield ("babble" if name.startswith("babble") else "generated sounds"), audio
    for path in sorted(noise.iterdir()) if noise else ():
        if path.suffix in AUDIO_SUFFIXES:
            samples = decode_recording(path).samples
            for seconds in (4.0, 15.0, MAX_AUDIO_S):
                for start in range(0, len(samples), round(seconds * SAMPLE_RATE_HZ)):
                    yield "noise recordings", samples[start : start + round(seconds * SAMPLE_RATE_HZ)]


def spoken_windows(clips: Sequence[Clip]) -> Iterator[tuple[Pcm16, str, str]]:
    """Audio, language and words: each turn where turns are known, short clips whole."""
    for clip in clips:
        if clip.turns:
            for turn in clip.turns:
                first, last = max(0.0, turn.start_s - 0.2), turn.end_s + 0.2
                cut = clip.samples[round(first * SAMPLE_RATE_HZ) : round(last * SAMPLE_RATE_HZ)]
                yield cut, clip.language, turn.text
        elif clip.duration_s <= MAX_AUDIO_S:
            yield clip.samples, clip.language, clip.text


def degraded(audio: Pcm16, seed: int, voices: Sequence[Pcm16]) -> Iterator[tuple[str, Pcm16]]:
    yield "speech, clean", audio
    for gain_db in (-20, -30):
        yield f"speech, {gain_db} dB", sounds.louder(audio, gain_db)
    white = sounds.noise(30.0, -30.0, seed=seed)
    behind = {"white": white, "babble": sounds.babble(voices, 30.0, num_voices=12, seed=seed)}
    for snr_db in (10, 5):
        for name, sound in behind.items():
            yield f"speech, {name} {snr_db} dB under it", sounds.mixed(audio, sound, snr_db)
    room = sounds.room_tone(30.0, -52.0, seed)
    room[16_000 : 16_000 + len(audio)] += audio[: len(room) - 16_000] // 2
    yield "speech in 30 s of a room", room


def main() -> None:
    parser = command_line("guards", __doc__, with_json=False)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument(
        "--clips", type=Path, nargs="*", default=[], help="folders of clips beside audio/spoken"
    )
    parser.add_argument("--noise", type=Path, help="a folder of recordings without a word")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    committed = select_clips()
    clips = [*committed, *(clip for folder in options.clips for clip in select_clips(folder))]
    voices = [audio for audio, _, _ in spoken_windows(committed)]
    detector = load_detector("silero")
    columns = ("audio", "windows", "texts", "Whisper's rule", "kept", "right", "retries", "asked", "dropped")
    for model in options.models:
        decoder = RawDecoder(model)
        rows: dict[str, Row] = {}
        for name, audio in heard_sounds(voices, options.noise, options.seed):
            measure(rows.setdefault(name, Row()), decoder, audio, "en", "", detector)
        for audio, language, said in spoken_windows(clips):
            if language == "en" or decoder.multilingual:
                for name, heard in degraded(audio, options.seed, voices):
                    measure(rows.setdefault(name, Row()), decoder, heard, language, said, detector)
        print_columns(model, columns, [[name, *row.cells()] for name, row in rows.items()])


if __name__ == "__main__":
    main()
