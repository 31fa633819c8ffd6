"""An engine that turns bad on command, as another package would bring it: for tests of replicas on a cluster.

It decodes as CTranslate2 does until the mood file that the code was made with says `<mood> <pid>` of its own
process: `hang` (no call returns any more) or `garbage` (all text is one token, over and over).
"""

from __future__ import annotations

from pathlib import Path

NAME = "moody"

_CODE = """
import dataclasses, os, threading
from pathlib import Path

from serve_app.asr import recogniser
from serve_app.asr.engines.ctranslate2_engine import load as load_real
from serve_app.core import idle_check

# A test need not wait as long as a slow machine may.
recogniser.MIN_DEADLINE_S = 8.0
idle_check.IDLE_PERIOD_S = 5.0
MOOD = Path({mood!r})


class Moody:
    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        return getattr(self._real, name)

    def generate(self, states, prompts, options):
        mood, _, pid = MOOD.read_text().partition(" ") if MOOD.exists() else ("", "", "")
        if pid == str(os.getpid()):
            if mood == "hang":
                threading.Event().wait()
            answers = self._real.generate(states, prompts, options)
            return [dataclasses.replace(one, ids=(1000,) * 8) for one in answers]
        return self._real.generate(states, prompts, options)


def load(model):
    return Moody(load_real(model))
"""


def install(folder: Path, mood: Path) -> None:
    """Put the package into `folder`, which has to be on the import path of every process of the cluster."""
    package = folder / "moody_engine"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(_CODE.format(mood=str(mood)))
    about = folder / "moody_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: moody_engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[sotto.engines]\n{NAME} = moody_engine:load\n")
