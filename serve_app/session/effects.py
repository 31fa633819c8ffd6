"""What a session asks for: text for stretches of its audio."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from serve_app.core.events import Event
from serve_app.core.jobs import DecodeJob


class Purpose(StrEnum):
    """Why a stretch is decoded. A speculative decode is a final's, begun before its silence is over."""

    FINAL = "final"
    SPECULATIVE = "speculative"
    INTERIM = "interim"


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """Decode samples `[start_sample, end_sample)` of the session as `job` says, and answer with `key`.

    The conductor gives the job an id of its own and its number of beams.
    """

    key: int
    purpose: Purpose
    start_sample: int
    end_sample: int
    job: DecodeJob


Effect: TypeAlias = Event | DecodeRequest
