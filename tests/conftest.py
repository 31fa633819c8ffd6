"""What every test may use; the project's own folders are importable as they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [str(ROOT), str(ROOT / "clients" / "python"), str(ROOT / "tests")]
sys.path[:0] = SOURCES
os.environ["PYTHONPATH"] = os.pathsep.join([*SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])

# A machine that is slow, or shared, makes examples as slowly as it runs them; that is no fault of a test.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", parent=settings.get_profile("any machine"), max_examples=20)
settings.load_profile("any machine")
