"""The sessions of one connection: one, or one for each channel of its audio, which may be its speakers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from serve_app.access.caller import Caller
from serve_app.core.errors import InvalidMessage, SottoError
from serve_app.core.events import (
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
from serve_app.core.samples import SAMPLE_RATE_HZ, Pcm16
from serve_app.protocols.choices import SessionChoices
from serve_app.protocols.dialect import AudioInput, Open, RawAudio
from serve_app.service.contract import LiveSession
from serve_app.session.options import SessionOptions
from serve_app.speakers.turns import SpeakerMode
from serve_app.web.door import Door, new_session_id
from serve_app.web.live.intake import num_sessions


class Channels:
    """Opens all sessions or none; audio goes to one channel, everything else to every session."""

    def __init__(self, door: Door, caller: Caller, *, anchored: Callable[[float], None]) -> None:
        """Sessions of the `caller`. `anchored` is called once, with the Unix time of the first sample."""
        self._door = door
        self._caller = caller
        self._anchored = anchored
        self._sessions: list[LiveSession] = []
        self._options: list[SessionOptions] = []
        self._num_samples: list[int] = []
        self._ended: dict[int, SessionEnded] = {}
        self._merged: ChannelSpeakers | None = None
        self.audio: AudioInput = RawAudio()
        self.all_ended = asyncio.Event()

    @property
    def is_open(self) -> bool:
        return bool(self._sessions)

    @property
    def session_id(self) -> str | None:
        return self._sessions[0].session_id if self._sessions else None

    @property
    def received_ms(self) -> float:
        return max(self._num_samples, default=0) * 1000 / SAMPLE_RATE_HZ

    @property
    def options(self) -> SessionOptions:
        """Of the first channel; they differ in the id alone."""
        return self._options[0]

    def open(self, command: Open) -> None:
        """Admit the sessions; their audio comes as `self.audio` says. Raises `SottoError`: then none is
        open."""
        first_id = command.session_id or ("" if command.resume else new_session_id())
        defaults, backend = self._door.session_defaults(), self._door.settings.diarization_backend
        first = command.choices.session_options(first_id, defaults, backend)
        if first.speakers is SpeakerMode.CHANNEL:
            first, audio = _by_channel(command, first)
        else:
            audio = command.audio
        number = num_sessions(audio)
        if number > 1 and command.resume:
            raise InvalidMessage("sessions of several channels cannot be resumed")
        options = [first] + [replace(first, session_id=f"{first_id}-{i}") for i in range(1, number)]
        try:
            for chosen in options:
                ticket = None if number > 1 else command.resume
                self._sessions.append(self._door.service.open_session(chosen, ticket, self._caller))
        except SottoError:
            self.close()
            raise
        self.audio = audio
        self._merged = ChannelSpeakers(number) if audio != command.audio and number > 1 else None
        self._options = options
        self._num_samples = [0] * number

    def start(self, on_event: Callable[[int, Event], None]) -> None:
        """Let the sessions begin; `on_event` is told the events of each channel."""
        for channel, session in enumerate(self._sessions):
            session.start(partial(on_event, channel))

    @property
    def tells_speakers(self) -> bool:
        return self._options[0].speakers is not SpeakerMode.OFF

    def for_client(self, channel: int, event: Event) -> Event | None:
        """An event as the client is told it; None: it is not."""
        if self.options.speakers is SpeakerMode.CHANNEL:
            event = labelled(event, channel)
        return event if self._merged is None else self._merged.merge(channel, event)

    async def push(self, channel: int, samples: Pcm16) -> None:
        if not any(self._num_samples):
            self._anchored(time.time() - len(samples) / SAMPLE_RATE_HZ)
        self._num_samples[channel] += len(samples)
        await self._sessions[channel].push(samples)

    def flush(self, channel: int | None) -> None:
        for index, session in enumerate(self._sessions):
            if channel in (None, index):
                session.flush()

    def reconfigure(self, choices: SessionChoices) -> None:
        """Raises `ClientError` for choices that make no sense; then nothing has changed."""
        backend = self._door.settings.diarization_backend
        options = [choices.session_options(known.session_id, known, backend) for known in self._options]
        self._options = options
        for session, chosen in zip(self._sessions, options, strict=True):
            session.reconfigure(chosen)

    def end(self) -> None:
        for session in self._sessions:
            session.end()

    def cancel(self, reason: EndReason) -> None:
        for channel, session in enumerate(self._sessions):
            if channel not in self._ended:
                session.cancel(reason)

    def close(self) -> None:
        """The connection is gone: their ids are free."""
        sessions, self._sessions = self._sessions, []
        for session in sessions:
            self._door.service.session_closed(session.session_id, session)

    def ended(self, channel: int, event: SessionEnded) -> None:
        self._ended[channel] = event
        if len(self._ended) == len(self._sessions):
            self.all_ended.set()

    @property
    def failed(self) -> bool:
        """A session ended because of an error of ours."""
        return any(event.reason is EndReason.ERROR for event in self._ended.values())

    @property
    def end_reason(self) -> str:
        """Of the first session that did not complete, else of any; empty while none has ended."""
        reasons = [event.reason for event in self._ended.values()]
        failed = (reason for reason in reasons if reason is not EndReason.COMPLETED)
        return next(failed, reasons[0] if reasons else "")

    @property
    def audio_ms(self) -> float:
        """Of what the sessions took; of what has come where none has ended."""
        taken = (event.total_samples * 1000 / SAMPLE_RATE_HZ for event in self._ended.values())
        return max(taken, default=self.received_ms)

    @property
    def num_finals(self) -> int:
        return sum(event.num_finals for event in self._ended.values())


def _by_channel(command: Open, options: SessionOptions) -> tuple[SessionOptions, AudioInput]:
    """Raw audio with a session for each of its channels. Those of a container and of a request's body are
    mixed: `InvalidMessage` where the client wants to know them apart, no speakers where only a default
    does."""
    if isinstance(command.audio, RawAudio) and not command.is_body:
        return options, replace(command.audio, split_channels=True)
    if command.choices.wants_speakers:
        raise InvalidMessage(
            "each channel is a speaker, and channels are mixed here: use /ws/stt"
            if command.is_body
            else "each channel is a speaker here, and those of a container are mixed: send raw samples, "
            "announced with sample_rate and channels"
        )
    return replace(options, speakers=SpeakerMode.OFF), command.audio


def with_reason(event: Event, reason: EndReason | None) -> Event:
    """A session that we ended did not complete."""
    if reason is not None and isinstance(event, SessionEnded) and event.reason is EndReason.COMPLETED:
        return replace(event, reason=reason)
    return event


def labelled(event: Event, channel: int) -> Event:
    """A final is spoken by its channel, also where a voice says otherwise."""
    if not isinstance(event, Final):
        return event
    return replace(
        event, speaker=channel, words=tuple(replace(word, speaker=channel) for word in event.words)
    )


class ChannelSpeakers:
    """The events of `num_channels` sessions that are one to the client.

    Utterances get ids that no other channel has; the session starts and ends once. Speech begins with the
    first channel that speaks and ends with the last. Several sessions cannot be resumed as one: there are no
    tickets.
    """

    def __init__(self, num_channels: int) -> None:
        self._num_channels = num_channels
        self._started = False
        self._speaking: set[int] = set()
        self._ended: list[SessionEnded] = []

    def merge(self, channel: int, event: Event) -> Event | None:
        """The event as the client is told it; None: it is not."""
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
