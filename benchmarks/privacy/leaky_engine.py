"""A recogniser that says a planted word, and quotes what it was given when it fails, as real ones may.

It is put where the service finds it as an installed package; it fails as the prompt or the hotwords say.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from serve_app.asr.ports import ModelToLoad, TranscriberInfo
from serve_app.core.jobs import DecodeJob, DecodeResult, Transcript

SAID_VARIABLE = "LEAKY_ENGINE_SAYS"
FAIL, DIE = "failnow", "dienow"


class Leaky:
    info = TranscriberInfo(
        "leaky", "leaky", "cpu", "none", multilingual=False, languages=frozenset({"en"}), path=""
    )

    def __init__(self, said: str) -> None:
        self._said = said

    def batch_key(self, job: DecodeJob) -> tuple[()]:
        return ()

    def warm_up(self) -> None:
        return None

    def transcribe(self, jobs: Sequence[DecodeJob]) -> list[DecodeResult]:
        return [self._decode(job, f"{job.prompt} {job.hotwords}") for job in jobs]

    def _decode(self, job: DecodeJob, given: str) -> DecodeResult:
        if DIE in given:
            os.abort()
        if FAIL in given:
            raise ValueError(f"cannot decode {given!r}, {self._said}, {job.audio.tobytes()[:200]!r}")
        return Transcript(job.job_id, f" {self._said}.", "en", 1.0, -0.1, 0.0, "leaky", confidence=0.9)


def load(model: ModelToLoad) -> Leaky:
    return Leaky(os.environ.get(SAID_VARIABLE, "nothing"))


def install(folder: Path) -> None:
    """Make the package in `folder`, which is to be on the service's path."""
    about = folder / "leaky_engine-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky-engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[sotto.transcribers]\nleaky = benchmarks.privacy.leaky_engine:load\n"
    )
