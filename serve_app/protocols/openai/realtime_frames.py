"""What a Realtime server sends, in the shapes of GA or of the beta; every event has an id of its own."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from serve_app.asr.jobs import SAMPLE_RATE_HZ
from serve_app.protocols.openai.answer import languages, usage
from serve_app.protocols.openai.answer import logprobs as logprobs_of
from serve_app.protocols.openai.realtime_items import Item
from serve_app.protocols.openai.realtime_session import (
    RealtimeSession,
    beta_session_object,
    session_object,
)

_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"

_encoder = msgspec.json.Encoder()


class RealtimeFrames:
    """Makes the frames of one connection; `name` and a count make its ids."""

    def __init__(self, name: str, *, beta: bool, expires_at: int) -> None:
        self.beta = beta
        self._name = name
        self._expires_at = expires_at
        self._num_events = 0

    def frame(self, kind: str, **fields: Any) -> str:
        event_id = f"event_{self._name}{self._num_events:08d}"
        self._num_events += 1
        return _encoder.encode({"type": kind, "event_id": event_id, **fields}).decode()

    def session(self, what: str, session: RealtimeSession) -> str:
        """`what`: created or updated."""
        shape, prefix = (
            (beta_session_object, "transcription_session") if self.beta else (session_object, "session")
        )
        shown = shape(session, f"sess_{self._name}", self._expires_at)
        return self.frame(f"{prefix}.{what}", session=shown)

    def committed(self, item: Item, previous_item_id: str | None) -> list[str]:
        message = {
            "id": item.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        steps = ("created",) if self.beta else ("created", "added", "done")
        return [
            self.frame(
                "input_audio_buffer.committed", previous_item_id=previous_item_id, item_id=item.item_id
            ),
            *(
                self.frame(f"conversation.item.{step}", previous_item_id=previous_item_id, item=message)
                for step in steps
            ),
        ]

    def delta(self, item: Item, text: str, *, starts: bool) -> str:
        """`starts`: the first of its utterance, which may go on from another one of the same turn."""
        delta = f" {text}" if starts and item.text else text
        return self.frame(f"{_TRANSCRIPTION}.delta", item_id=item.item_id, content_index=0, delta=delta)

    def completed(self, item: Item, *, logprobs: bool) -> str:
        return self.frame(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.item_id,
            content_index=0,
            transcript=item.text,
            languages=languages(item.language),
            usage=usage(item.num_samples / SAMPLE_RATE_HZ),
            **({"logprobs": logprobs_of(item.words)} if logprobs else {}),
        )

    def segment(self, item_id: str, **fields: Any) -> str:
        return self.frame(f"{_TRANSCRIPTION}.segment", item_id=item_id, content_index=0, **fields)

    def failed(self, item: Item, error: dict[str, Any]) -> str:
        return self.frame(f"{_TRANSCRIPTION}.failed", item_id=item.item_id, content_index=0, error=error)
