"""Terms to expect: how many are right, and what they cost the rest of the text, by method and budget.

    python -m benchmarks.text.keyterms --models tiny.en base --json out/keyterms.json
    python -m benchmarks.text.keyterms --tune --budgets 3 4 5 6 7

Sentences with names of drugs, people and places are read by voices of `flite` (Debian: flite) and decoded one
by one as finals by the onnx engine, guards and Silero included: without terms, with 100 terms in the prompt,
and with the same 100 lifted in the search. About 40 of the terms are never said. Terms and sentences that the
budget was chosen with (`--tune`) are others. Then come turns of `audio/spoken`, in which no term is said, and
sounds without words, on which terms are counted that come all the same.

A term is right where it stands in the text as its words. Errors elsewhere are those of all other words; what
stands for a term that is not right (more words than it has) counts as the term's.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import jiwer
import numpy as np

from benchmarks.clips import Clip, load_clips
from benchmarks.report import command, command_line, print_columns, write_json
from benchmarks.scoring import Summed, normalise
from serve_app.asr import decoding, keyterms
from serve_app.asr.config import HostedModel, RecogniserConfig, transcriber_of
from serve_app.asr.engines.choice import load_engine
from serve_app.asr.fallback import GuardOptions
from serve_app.asr.whisper import WhisperTranscriber
from serve_app.assembly.recognisers import FINAL_PAD_S, FINAL_TAIL_S
from serve_app.assembly.voice_activity import load_detector, voice_of
from serve_app.audio.recordings import decode_recording
from serve_app.core.errors import SottoError
from serve_app.core.jobs import DecodeJob, Role
from serve_app.core.keyterms import KeytermMethod
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.models import resolve_model

VOICES = ("slt", "rms", "awb")
NUM_TERMS = 100
COLUMNS = ("model", "terms", "term errors", "errors elsewhere", "%", "unsaid", "on sounds", "CPU ms/s")

SAID = {
    "drug": (
        "Metoprolol, Losartan, Amoxicillin, Clopidogrel, Rivaroxaban, Levothyroxine, Sertraline, "
        "Omeprazole, Atorvastatin, Gabapentin, Warfarin, Furosemide, Citalopram, Methotrexate, "
        "Azithromycin, Tamsulosin, Spironolactone, Dabigatran, Lamotrigine, Fluconazole, Ondansetron, "
        "Prednisolone, Empagliflozin, Quetiapine, Bisoprolol, Doxycycline, Allopurinol, Salbutamol, "
        "Ezetimibe, Carvedilol"
    ),
    "person": (
        "Siobhan Kearney, Nguyen Thao, Krzysztof Wrona, Anneliese Vogt, Tadeusz Malik, Oluwaseun "
        "Bello, Marguerite Duval, Iker Etxeberria, Rosalind Achterberg, Joaquim Pessoa, Aoife "
        "Brennan, Thandiwe Zulu, Ingeborg Halvorsen, Matteo Ferrante, Priyanka Deshpande, Yusuf "
        "Demirel"
    ),
    "place": (
        "Wolverhampton, Ljubljana, Kilmarnock, Aberystwyth, Saskatoon, Reykjavik, Coimbra, "
        "Gloucester, Tegucigalpa, Schenectady, Ouagadougou, Canberra, Trondheim, Poughkeepsie"
    ),
}
TUNED = {
    "drug": (
        "Lisinopril, Amlodipine, Simvastatin, Pantoprazole, Venlafaxine, Ciprofloxacin, Apixaban, "
        "Mirtazapine, Hydrochlorothiazide, Tramadol, Enoxaparin, Clarithromycin, Escitalopram, "
        "Digoxin, Metronidazole, Valproate"
    ),
    "person": (
        "Niamh Gallagher, Wojciech Kowal, Chidinma Okafor, Friedrich Lindqvist, Solveig Aasen, "
        "Esperanza Quiroga, Hamza Yildiz, Beatrix Oosterhuis"
    ),
    "place": ("Worcester, Llanelli, Zagreb, Valparaiso, Kuala Lumpur, Edinburgh, Albuquerque, Szczecin"),
}
DISTRACTORS = (
    "Ramipril, Candesartan, Nifedipine, Verapamil, Diltiazem, Rosuvastatin, Pravastatin, "
    "Lansoprazole, Famotidine, Fluoxetine, Paroxetine, Duloxetine, Bupropion, Olanzapine, "
    "Risperidone, Aripiprazole, Levetiracetam, Topiramate, Pregabalin, Baclofen, Cephalexin, "
    "Nitrofurantoin, Vancomycin, Terbinafine, Acyclovir, Montelukast, Tiotropium, Budesonide, Insulin "
    "Glargine, Sitagliptin, Liraglutide, Torasemide, Edoxaban, Ticagrelor, Niall Horgan, Agnieszka "
    "Nowak, Giulia Moretti, Lars Eriksen, Fatima Benali, Kenji Watanabe, Dundee, Leicester, "
    "Bratislava, Winnipeg, Antananarivo, Galway, Utrecht, Porto Alegre, Novosibirsk, Cardiff, "
    "Anchorage, Mombasa, Eszter Horvath, Zbigniew Baran, Moira Sinclair, Emeka Obi, Caoimhe Doyle, "
    "Sanjay Kulkarni, Leeds, Perth"
)
SENTENCES = {
    "drug": (
        "Please start {} today and see me again in two weeks.",
        "She has been taking {} every morning since March.",
        "I would stop the {} before the operation.",
        "The pharmacy had no {}, so he went without it.",
        "We gave him {} for the pain in his chest.",
        "Is {} safe together with her other tablets?",
    ),
    "person": (
        "My name is {} and I am calling about my appointment.",
        "Could you ask {} to call me back this afternoon?",
        "The letter was signed by {} last Tuesday.",
        "{} will join the meeting at half past nine.",
    ),
    "place": (
        "We drove to {} on Friday and came back on Sunday.",
        "The next train to {} leaves in twenty minutes.",
        "He grew up near {} with his two brothers.",
        "The parcel from {} has not arrived yet.",
    ),
}
TUNING_SENTENCES = {
    "drug": (
        "The doctor wrote a prescription for {} yesterday.",
        "He takes {} twice a day with food.",
        "Her rash went away after we changed the {}.",
        "Did you remember your {} this evening?",
    ),
    "person": (
        "I spoke to {} on the phone this morning.",
        "Please send the results to {} as soon as you can.",
        "This is {} from the second floor.",
    ),
    "place": (
        "My sister moved to {} three years ago.",
        "The flight to {} was cancelled because of the snow.",
        "There is a good hospital in {}.",
    ),
}


@dataclass(frozen=True, slots=True)
class Score(Summed):
    """`num_unsaid`: terms in the text that were not said."""

    num_terms: int = 0
    term_errors: int = 0
    num_words: int = 0
    other_errors: int = 0
    num_unsaid: int = 0
    num_sounds: int = 0
    on_sounds: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """One way to decode, `budget` where terms are lifted."""

    name: str
    method: KeytermMethod = KeytermMethod.PROMPT
    hotwords: str = ""
    budget: float = 0.0


def sentences(tune: bool) -> list[tuple[str, str]]:
    """Each term in a sentence of its kind: (term, sentence)."""
    terms, patterns = (TUNED, TUNING_SENTENCES) if tune else (SAID, SENTENCES)
    return [
        (term, patterns[kind][index % len(patterns[kind])].format(term))
        for kind, listed in terms.items()
        for index, term in enumerate(listed.split(", "))
    ]


def term_list(tune: bool) -> list[str]:
    """All terms that are said and as many others as make a hundred, in an order of chance."""
    terms = [term for term, _ in sentences(tune)]
    others = [*DISTRACTORS.split(", "), *(term for term, _ in sentences(not tune))]
    terms += [term for term in others if term not in terms][: NUM_TERMS - len(terms)]
    random.Random(17).shuffle(terms)
    return terms


def speak(text: str, voice: str) -> Pcm16:
    """Read a text aloud, with half a second of silence around it. Raises FileNotFoundError without flite."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", file.name], check=True)
        samples = decode_recording(Path(file.name).read_bytes()).samples
    noise = np.random.default_rng(0).normal(0, 8, len(samples) + SAMPLE_RATE_HZ)
    noise[SAMPLE_RATE_HZ // 2 : -SAMPLE_RATE_HZ // 2] += samples
    return np.clip(np.round(noise), -32768, 32767).astype(np.int16)


def sounds() -> list[Pcm16]:
    """Sounds without words: silence, noises of several colours and levels, tones, hum, clicks."""
    found = []
    for seed, (seconds, level) in enumerate(
        (s, level) for s in (1.0, 3.0, 8.0) for level in (8, 100, 1000, 5000)
    ):
        rng = np.random.default_rng(seed)
        size = round(seconds * SAMPLE_RATE_HZ)
        white = rng.normal(0, 1, size)
        t = np.arange(size) / SAMPLE_RATE_HZ
        brown = np.cumsum(white)
        brown = brown - np.linspace(brown[0], brown[-1], size)
        slow = 0.5 + 0.5 * np.sin(2 * np.pi * 0.7 * t)
        clicks = np.where(rng.random(size) < 4 / SAMPLE_RATE_HZ, 8.0, 0.0)
        breath = np.convolve(white, np.ones(6) / 6, "same") * slow
        for sound in (
            white,
            brown / brown.std(),
            np.sin(2 * np.pi * 440 * t),
            np.sin(2 * np.pi * 50 * t),
            breath,
            clicks,
        ):
            found.append(np.clip(np.round(sound * level), -32768, 32767).astype(np.int16))
    return found


def score(reference: str, hypothesis: str, said: Sequence[str], terms: Sequence[str]) -> Score:
    """One text against what was said, in which `said` are terms, `terms` all that are expected."""
    words, written = normalise(reference).split(), normalise(hypothesis).split()
    of_term = [False] * len(words)
    num_errors = 0
    for term in said:
        parts = normalise(term).split()
        for at in _places(words, parts):
            of_term[at : at + len(parts)] = [True] * len(parts)
        num_errors += max(0, len(_places(words, parts)) - len(_places(written, parts)))
    unsaid = sum(
        max(0, len(_places(written, parts)) - len(_places(words, parts)))
        for parts in (normalise(term).split() for term in terms)
    )
    return Score(
        num_terms=len(said),
        term_errors=num_errors,
        num_words=of_term.count(False),
        other_errors=_errors_elsewhere(words, written, of_term),
        num_unsaid=unsaid,
    )


def _errors_elsewhere(words: Sequence[str], written: Sequence[str], of_term: Sequence[bool]) -> int:
    if not words:
        return len(written)
    chunks = jiwer.process_words(" ".join(words), " ".join(written)).alignments[0]
    wrong_term = list(of_term)
    for chunk in chunks:
        if chunk.type == "equal":
            wrong_term[chunk.ref_start_idx : chunk.ref_end_idx] = [False] * (
                chunk.ref_end_idx - chunk.ref_start_idx
            )
    errors = 0
    for chunk in chunks:
        if chunk.type == "insert":
            if not any(wrong_term[max(0, chunk.ref_start_idx - 1) : chunk.ref_start_idx + 1]):
                errors += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            errors += sum(not of_term[index] for index in range(chunk.ref_start_idx, chunk.ref_end_idx))
    return errors


def _places(words: Sequence[str], parts: Sequence[str]) -> list[int]:
    size = len(parts)
    return [at for at in range(len(words) - size + 1) if list(words[at : at + size]) == list(parts)]


@dataclass(slots=True)
class Bench:
    """Clips and sounds, and the terms that are expected in them."""

    terms: Sequence[str]
    clips: list[tuple[Clip, tuple[str, ...]]] = field(default_factory=list)
    sounds: list[Pcm16] = field(default_factory=list)

    def measure(self, transcriber: WhisperTranscriber, way: Way) -> tuple[Score, float]:
        """The score of one way, and CPU ms per second of speech."""
        total = Score()
        began = time.process_time()
        for clip, said in self.clips:
            text = _text(transcriber, clip.samples, way.hotwords)
            total += score(clip.text, text, said, self.terms)
        cpu_s = time.process_time() - began
        for sound in self.sounds:
            heard = score("", _text(transcriber, sound, way.hotwords), (), self.terms)
            total += Score(num_sounds=1, on_sounds=heard.num_unsaid)
        seconds = sum(clip.duration_s for clip, _ in self.clips)
        return total, 1000 * cpu_s / seconds


def _text(transcriber: WhisperTranscriber, samples: Pcm16, hotwords: str) -> str:
    [result] = transcriber.transcribe([DecodeJob(0, Role.FINAL, samples, "en", hotwords=hotwords)])
    return result.text if hasattr(result, "text") else ""


def bench(voices: Sequence[str], *, tune: bool) -> Bench:
    """Clips to tune with have one voice each, and no sounds or turns with them."""
    found = Bench(term_list(tune), sounds=[] if tune else sounds())
    for index, (term, sentence) in enumerate(sentences(tune)):
        for voice in [voices[index % len(voices)]] if tune else voices:
            found.clips.append((Clip(f"{voice}: {sentence}", speak(sentence, voice), sentence), (term,)))
    for dialogue in [] if tune else load_clips():
        for turn in dialogue.turns:
            first, last = (round(s * SAMPLE_RATE_HZ) for s in (max(0, turn.start_s - 0.2), turn.end_s + 0.2))
            found.clips.append((Clip(turn.text, dialogue.samples[first:last], turn.text), ()))
    return found


def transcriber(name: str, way: Way) -> WhisperTranscriber:
    """The model as it decodes finals, on one thread."""
    detector = load_detector("silero")
    model = HostedModel(name, resolve_model(name).path)
    config = RecogniserConfig(
        models={Role.FINAL: model},
        engine="onnx",
        num_workers=1,
        tails_s={Role.FINAL: FINAL_TAIL_S},
        pads_s={Role.FINAL: FINAL_PAD_S},
        guards=GuardOptions(ask_voice=lambda audio: voice_of(audio, detector=detector)),
        keyterms=way.method,
    )
    return transcriber_of(config, model, load_engine("onnx", config.to_load(model)))


def measured(told: Bench, models: Sequence[str], ways: Sequence[Way]) -> list[dict[str, Any]]:
    """One record for each model and way, told as they come."""
    found = []
    for name in models:
        for way in ways:
            with mock.patch.object(decoding, "BUDGET", way.budget or keyterms.BUDGET):
                total, cpu_ms = told.measure(transcriber(name, way), way)
            found.append({"model": name, "way": way.name, "cpu_ms_per_s": cpu_ms, **asdict(total)})
            print(found[-1], file=sys.stderr, flush=True)
    return found


def columns_of(found: dict[str, Any]) -> list[str]:
    return [
        found["model"],
        found["way"],
        f"{found['term_errors']} of {found['num_terms']}",
        f"{found['other_errors']} of {found['num_words']}",
        f"{100 * found['other_errors'] / found['num_words']:.2f}",
        f"{found['num_unsaid']}",
        f"{found['on_sounds']} of {found['num_sounds']}",
        f"{found['cpu_ms_per_s']:.1f}",
    ]


@command(SottoError, ValueError, FileNotFoundError)
def main(argv: Sequence[str] | None = None) -> int:
    parser = command_line("keyterms", __doc__)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--tune", action="store_true", help="first try budgets, on other terms and sentences")
    parser.add_argument("--budgets", nargs="+", type=float, default=[keyterms.BUDGET])
    parser.add_argument("--both", action="store_true", help="also prompt and lift together")
    parser.add_argument("--voices", nargs="+", default=list(VOICES))
    args = parser.parse_args(argv)
    results = []
    if args.tune:
        told = bench(args.voices, tune=True)
        hotwords = ", ".join(told.terms)
        ways = [Way(f"lift {value:g}", KeytermMethod.LIFT, hotwords, value) for value in args.budgets]
        results = measured(told, args.models[:1], [Way("none"), *ways])
        print_columns("Tuning", COLUMNS, [columns_of(one) for one in results])
    told = bench(args.voices, tune=False)
    hotwords = ", ".join(told.terms)
    ways = [
        Way("none"),
        Way("prompt", hotwords=hotwords),
        Way("lift", KeytermMethod.LIFT, hotwords, keyterms.BUDGET),
    ]
    if args.both:
        ways.append(Way("both", KeytermMethod.BOTH, hotwords, keyterms.BUDGET))
    held_out = measured(told, args.models, ways)
    print_columns("Terms to expect", COLUMNS, [columns_of(one) for one in held_out])
    if args.json:
        write_json(args.json, {"tuning": results, "held_out": held_out})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
