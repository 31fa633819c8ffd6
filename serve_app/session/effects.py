"""What a session asks for: text for stretches of its audio."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from serve_app.asr.jobs import AttentionRule, LanguageHint, Pcm16, Role, Task
from serve_app.events import Event


class Purpose(StrEnum):
    """Why a stretch is decoded. A speculative decode is a final's, begun before its silence is over."""

    FINAL = "final"
    SPECULATIVE = "speculative"
    INTERIM = "interim"


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """Decode `audio`, samples `[start_sample, end_sample)` of the session, and answer with `key`.

    The other fields are a `DecodeJob`'s; `fresh_samples` are its `fresh_s`."""

    key: int
    purpose: Purpose
    start_sample: int
    end_sample: int
    audio: Pcm16
    language: str | None
    task: Task
    prompt: str
    word_timestamps: bool
    hotwords: str = ""
    prefix: str = ""
    attention: AttentionRule | None = None
    model: Role | None = None
    fresh_samples: int | None = None
    hint: LanguageHint = LanguageHint()


Effect: TypeAlias = Event | DecodeRequest
