"""A recording that is taken up decodes only what is missing, and reads as if nothing had happened."""

from __future__ import annotations

import numpy as np
import pytest

from fakes.talk import speech
from fakes.transcribers import FakeRecogniser, FakeVoice
