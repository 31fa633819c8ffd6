"""What a Realtime server sends, in the shapes of GA or of the beta; every event has an id of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import UNSET

from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.openai import realtime_records as records
from serve_app.protocols.openai.answer import languages, usage
from serve_app.protocols.openai.answer import logprobs as logprobs_of
from serve_app.protocols.openai.realtime_items import Item
from serve_app.protocols.openai.realtime_session import (
    LOGPROBS,
    BetaFormatName,
    FormatName,
    RealtimeSession,
)
from sotto_client.wire import Written

_BETA_FORMATS: Final[dict[FormatName, BetaFormatName]] = {
    "audio/pcm": "pcm16",
    "audio/pcmu": "g711_ulaw",
    "audio/pcma": "g711_alaw",
}

_encoder = msgspec.json.Encoder()


class RealtimeFrames:
    """Makes the frames of one connection; `name` and a count make its ids."""

    def __init__(self, name: str, *, beta: bool, expires_at: int) -> None:
        self.beta = beta
        self._name = name
        self._expires_at = expires_at
        self._num_events = 0

    def frame(self, record: Callable[..., Written], **fields: Any) -> str:
        """An event of this type with an id of its own."""
        event_id = f"event_{self._name}{self._num_events:08d}"
        self._num_events += 1
        return _encoder.encode(record(event_id=event_id, **fields)).decode()

    def created(self, session: RealtimeSession) -> str:
        return self._session(records.Created, records.BetaCreated, session)

    def updated(self, session: RealtimeSession) -> str:
        return self._session(records.Updated, records.BetaUpdated, session)

    def _session(
        self, ga: Callable[..., Written], beta: Callable[..., Written], session: RealtimeSession
    ) -> str:
        shape = shown_beta_session if self.beta else shown_session
        shown = shape(session, f"sess_{self._name}", self._expires_at)
        return self.frame(beta if self.beta else ga, session=shown)

    def committed(self, item: Item, previous_item_id: str | None) -> list[str]:
        steps: tuple[Callable[..., Written], ...] = (records.ItemCreated,)
        if not self.beta:
            steps += (records.ItemAdded, records.ItemDone)
        shown = records.Item(id=item.item_id)
        return [
            self.frame(records.Committed, previous_item_id=previous_item_id, item_id=item.item_id),
            *(self.frame(step, previous_item_id=previous_item_id, item=shown) for step in steps),
        ]

    def delta(self, item: Item, text: str, *, starts: bool) -> str:
        """`starts`: the first of its utterance, which may go on from another one of the same turn."""
        delta = f" {text}" if starts and item.text else text
        return self.frame(records.Delta, item_id=item.item_id, delta=delta)

    def completed(self, item: Item, *, logprobs: bool) -> str:
        return self.frame(
            records.Completed,
            item_id=item.item_id,
            transcript=item.text,
            languages=languages(item.language),
            usage=usage(item.num_samples / SAMPLE_RATE_HZ),
            logprobs=logprobs_of(item.words) if logprobs else UNSET,
        )

    def failed(self, item: Item, error: records.FailedFields) -> str:
        return self.frame(records.Failed, item_id=item.item_id, error=error)


def shown_session(session: RealtimeSession, session_id: str, expires_at: int) -> records.Session:
    """The session in GA's shape; `expires_at` is a Unix second."""
    shown = records.ShownInput(
        format=session.format,
        transcription=_shown_transcription(session),
        turn_detection=session.turn_detection,
    )
    return records.Session(
        id=session_id,
        expires_at=expires_at,
        audio=records.ShownAudio(input=shown),
        include=[LOGPROBS] if session.logprobs else None,
    )


def shown_beta_session(
    session: RealtimeSession, session_id: str, expires_at: int, *, secret: str = ""
) -> records.BetaSession:
    """The session in the beta's shape, with `secret` where one was asked for."""
    shown_secret = records.ShownSecret(value=secret, expires_at=expires_at)
    return records.BetaSession(
        id=session_id,
        expires_at=expires_at,
        input_audio_format=_BETA_FORMATS[session.format.type],
        input_audio_transcription=_shown_transcription(session),
        turn_detection=session.turn_detection,
        include=[LOGPROBS] if session.logprobs else None,
        client_secret=shown_secret if secret else UNSET,
    )


def _shown_transcription(session: RealtimeSession) -> records.ShownTranscription:
    return records.ShownTranscription(
        model=session.model,
        language=session.language,
        prompt=session.prompt,
        languages=session.languages or UNSET,
        keywords=session.keywords or UNSET,
        delay=session.delay or UNSET,
    )
