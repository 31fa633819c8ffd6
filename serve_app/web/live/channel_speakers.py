"""One speaker a channel: the sessions of several channels as one session, whose speakers are its channels."""

from __future__ import annotations

from dataclasses import replace

from serve_app.events import (
    Acknowledged,
    EndReason,
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionStarted,
    SpeakerRevision,
    SpeechEnded,
    SpeechStarted,
)


def labelled(event: Event, channel: int) -> Event:
    """A final is spoken by its channel, whatever else is known."""
    if not isinstance(event, Final):
        return event
    return replace(
        event, speaker=channel, words=tuple(replace(word, speaker=channel) for word in event.words)
    )


class ChannelSpeakers:
    """What the client hears of `num_channels` sessions that are one to it.

    Utterances get ids that no other channel has; the session starts and ends once. Speech begins with the
    first channel that speaks and ends with the last. Several sessions cannot be resumed as one: there are no
    tickets.
    """

    def __init__(self, num_channels: int) -> None:
        self._num_channels = num_channels
        self._started = False
        self._speaking: set[int] = set()
        self._ended: list[SessionEnded] = []

    def heard(self, channel: int, event: Event) -> Event | None:
        """The event as the client is to hear it; None: it is not."""
        match event:
            case SessionStarted():
                is_first, self._started = not self._started, True
                return replace(event, ticket="") if is_first else None
            case SpeechStarted():
                is_first = not self._speaking
                self._speaking.add(channel)
                return event if is_first else None
            case SpeechEnded():
                self._speaking.discard(channel)
                return None if self._speaking else event
            case Partial():
                return replace(event, utterance_id=f"{event.utterance_id}.{channel}")
            case Final() | SpeakerRevision():
                return replace(event, utterance_id=f"{event.utterance_id}.{channel}", ticket="")
            case Acknowledged():
                return None
            case SessionEnded():
                self._ended.append(event)
                return self._end() if len(self._ended) == self._num_channels else None
            case _:
                return event

    def _end(self) -> SessionEnded:
        failed = (event for event in self._ended if event.reason is not EndReason.COMPLETED)
        return replace(
            next(failed, self._ended[-1]),
            total_samples=max(event.total_samples for event in self._ended),
            num_finals=sum(event.num_finals for event in self._ended),
        )
