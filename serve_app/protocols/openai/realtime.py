"""`WS /v1/realtime?intent=transcription` as a dialect, in the shapes of GA and of the beta.

    client                                       server
                                             <-  session.created
    session.update                           ->
                                             <-  session.updated
    input_audio_buffer.append {audio}        ->
                                             <-  input_audio_buffer.speech_started {item_id}
                                             <-  conversation.item.input_audio_transcription.delta
                                             <-  input_audio_buffer.speech_stopped, .committed
                                             <-  conversation.item.created, GA: .added, .done too
                                             <-  conversation.item.input_audio_transcription.completed
                                             <-  conversation.item.input_audio_transcription.segment
    input_audio_buffer.commit | .clear       ->
                                             <-  input_audio_buffer.committed | .cleared

Deltas only ever add: they are the text that will not change in later interims. The transcript in `completed`
is what counts: where a final says something else than its interims, the deltas put together differ from it.
Segments come with the diarizing model only, each once its speaker is known, and `completed` does not wait for
them. The session begins with its first audio, with what was chosen up to then. With detection on, a commit
ends the turn in progress at once; where there is none, what was committed becomes an item without words. A
turn whose audio stops coming ends by itself. The beta is spoken where the handshake asked for it, and from
the first `transcription_session.update` on. Times are milliseconds from the session's first sample.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from serve_app.audio.pcm import SAMPLE_BYTES
from serve_app.core.errors import (
    InferenceError,
    InvalidMessage,
    PayloadTooLarge,
    SottoError,
)
from serve_app.core.events import (
    Acknowledged,
    EndReason,
    Event,
    Final,
    Flushed,
    Partial,
    SessionEnded,
    SessionError,
    SpeakerRevision,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.deltas import NewWords
from serve_app.protocols.dialect import (
    Command,
    Dialect,
    Flush,
    Frame,
    Open,
    RawAudio,
    Reconfigure,
    Reply,
)
from serve_app.protocols.openai import realtime_records as records
from serve_app.protocols.openai.errors import RefusedParameter, error_fields
from serve_app.protocols.openai.realtime_audio import MAX_EVENT_CHARS, ClientEvent, decode_audio, pieces_of
from serve_app.protocols.openai.realtime_frames import RealtimeFrames
from serve_app.protocols.openai.realtime_items import TOLERANCE_SAMPLES, Item, Items
from serve_app.protocols.openai.realtime_segments import RealtimeSegments
from serve_app.protocols.openai.realtime_session import (
    DEFAULT_SESSION,
    RealtimeSession,
    SessionUpdate,
    decode_json,
    merged,
    refuse_late_change,
)

MIN_COMMIT_MS = 100
MAX_HELD_MS = 1_000
"""Audio that comes before any `session.update` waits so long for one: some clients send their sound while
their settings are still on the way."""

_UPDATES = {"session.update": False, "transcription_session.update": True}
_CLIENT_EVENTS = (
    *_UPDATES,
    "input_audio_buffer.append",
    "input_audio_buffer.commit",
    "input_audio_buffer.clear",
)


class RealtimeDialect(Dialect):
    """One connection. `check_model` raises `ModelNotFound` for a name that is not served here.

    `name` makes its ids: unique among connections, letters and digits. `expires_at`: the Unix second at which
    the session ends at the latest.
    """

    def __init__(
        self,
        name: str,
        session: RealtimeSession = DEFAULT_SESSION,
        *,
        beta: bool = False,
        expires_at: int = 0,
        check_model: Callable[[str], object] = lambda name: None,
    ) -> None:
        self._session = session
        self._frames = RealtimeFrames(name, beta=beta, expires_at=expires_at)
        self._check_model = check_model
        self._items = Items(name)
        self._segments = RealtimeSegments(self._frames)
        self._new_words = NewWords()
        self._num_bytes = 0
        self._mark_sample = 0
        self._cleared_sample = 0
        self._commits: deque[int] = deque()
        self._answered_sample: int | None = None
        self._is_open = False
        self._is_configured = False
        self._held = bytearray()
        self._client_event_id: str | None = None

    # what the shell calls

    def accepted(self) -> Sequence[Frame]:
        return [self._frames.created(self._session)]

    def opened(self, session_id: str) -> None:
        self._is_open = True

    def finishes_when_idle(self) -> bool:
        return self._session.turn_detection is not None

    def receive(self, frame: Frame) -> Sequence[Command]:
        """Raises `RefusedParameter`, `UnsupportedLanguage`, `ModelNotFound` and `PayloadTooLarge`."""
        self._client_event_id = None
        if isinstance(frame, bytes):
            raise RefusedParameter("binary messages are not part of this protocol: send JSON")
        if len(frame) > MAX_EVENT_CHARS:
            raise PayloadTooLarge(f"event of {len(frame)} characters, the limit is {MAX_EVENT_CHARS}")
        event = decode_json(frame, ClientEvent)
        if event.event_id is not None:
            self._client_event_id = event.event_id[:512]
        match event.type:
            case "input_audio_buffer.append":
                return self._append(event.audio)
            case "input_audio_buffer.commit":
                return self._commit()
            case "input_audio_buffer.clear":
                return self._clear()
            case "session.update" | "transcription_session.update":
                if settings := bytes(event.session):
                    update = decode_json(settings, SessionUpdate, "session")
                else:  # the beta's guide shows its fields without `session` around them
                    update = msgspec.structs.replace(decode_json(frame, SessionUpdate), type=None)
                return self._update(update, beta=_UPDATES[event.type])
        raise RefusedParameter(
            f"Invalid value: {event.type[:64]!r}. Supported values are: {', '.join(_CLIENT_EVENTS)}",
            param="type",
            reason="invalid_value",
        )

    def send(self, event: Event, channel: int = 0) -> Sequence[Frame]:
        match event:
            case SpeechStarted() | SpeechEnded() if self._session.turn_detection is None:
                return []
            case SpeechStarted(at_sample):
                return self._speech_started(at_sample)
            case SpeechEnded(at_sample):
                return self._speech_ended(at_sample)
            case Partial():
                return self._partial(event)
            case Final():
                return self._final(event)
            case SpeakerRevision():
                return self._segments.revise(event)
            case Flushed(at_sample):
                return self._flushed(at_sample)
            case Acknowledged(sample):
                return self._completed(self._items.take_over_at(sample))
            case SessionError():
                return self._session_error(event)
            case SessionEnded(reason):
                return [*self._session_ended(reason), *self._wordless(), *self._segments.settle()]
        return []

    def refuse(self, error: SottoError) -> Sequence[Frame]:
        fields = error_fields(error)
        about = self._client_event_id if isinstance(error, InvalidMessage) else None
        return [self._error(fields.type, fields.code, fields.message, fields.param, about)]

    def _error(
        self, kind: str, code: str | None, message: str, param: str | None = None, about: str | None = None
    ) -> Frame:
        error = records.ErrorFields(type=kind, code=code, message=message, param=param, event_id=about)
        return self._frames.frame(records.Error, error=error)

    # the client's events

    def _append(self, audio: str | None) -> Sequence[Command]:
        data = decode_audio(audio)
        if self._is_open:
            self._num_bytes += len(data)
            return pieces_of(data)
        self._held += data
        self._num_bytes = len(self._held)
        if not self._is_configured and _ms(self._received_samples) < MAX_HELD_MS:
            return []
        return self._open()

    def _open(self) -> list[Command]:
        """Begin with what was held."""
        audio_format = self._session.format
        raw = RawAudio(audio_format.encoding, audio_format.rate_hz)
        held = bytes(self._held)
        self._held.clear()
        self._num_bytes = len(held)
        self._mark_sample = self._cleared_sample = 0
        return [Open(self._session.choices(), raw, resume=""), *pieces_of(held)]

    def _commit(self) -> Sequence[Command]:
        received = self._received_samples
        new_ms = _ms(received - self._mark_sample)
        manual = self._session.turn_detection is None
        if new_ms < MIN_COMMIT_MS:
            raise RefusedParameter(
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{MIN_COMMIT_MS}ms of audio, but buffer only has {new_ms:.2f}ms of audio.",
                reason="input_audio_buffer_commit_empty",
            )
        opening = self._open() if self._held else []
        frames: list[Frame] = []
        if manual:
            item, frames = self._open_item()
            item.ended_sample = received
            frames += self._committed(item)
        else:
            self._commits.append(received)
        self._mark_sample = received
        return [*opening, Flush(), Reply(tuple(frames))] if frames else [*opening, Flush()]

    def _clear(self) -> Sequence[Command]:
        if self._held:
            self._held.clear()
            self._num_bytes = 0
            return [Reply((self._frames.frame(records.Cleared),))]
        received = self._received_samples
        frames: list[Frame] = []
        if self._session.turn_detection is None:
            if received > self._mark_sample:
                item, frames = self._open_item()
                item.discarded, item.ended_sample = True, received
        elif (speaking := self._items.open_item) is not None:
            speaking.discarded = True
        self._mark_sample = self._cleared_sample = received
        return [Flush(), Reply((*frames, self._frames.frame(records.Cleared)))]

    def _update(self, update: SessionUpdate, *, beta: bool) -> Sequence[Command]:
        session = merged(self._session, update)
        if session.model != self._session.model:
            self._check_model(session.model)
        if self._is_open:
            refuse_late_change(self._session, session)
        self._frames.beta = beta
        self._session = session
        reply = Reply((self._frames.updated(self._session),))
        self._is_configured = True
        if self._is_open:
            return [Reconfigure(session.choices()), reply]
        return [reply, *self._open()] if self._held else [reply]

    # the session's events

    def _speech_started(self, at_sample: int) -> list[Frame]:
        item, frames = self._begin(at_sample, discarded=at_sample < self._cleared_sample)
        if item.discarded:
            return frames
        # OpenAI's time is where the audio that the model hears begins: with the padding
        start_ms = max(0, round(_ms(at_sample)) - self._session.prefix_padding_ms)
        started = self._frames.frame(records.SpeechStarted, audio_start_ms=start_ms, item_id=item.item_id)
        return [*frames, started]

    def _speech_ended(self, at_sample: int) -> list[Frame]:
        item = self._items.open_item
        if item is None:
            return []
        item.ended_sample = at_sample
        if item.discarded:
            return []
        self._answered_sample = self._commits[0] if self._commits else None
        silence_samples = self._session.silence_ms * SAMPLE_RATE_HZ // 1000
        self._mark_sample = max(self._mark_sample, min(at_sample + silence_samples, self._received_samples))
        end_ms = round(_ms(at_sample)) + self._session.silence_ms
        stopped = self._frames.frame(records.SpeechStopped, audio_end_ms=end_ms, item_id=item.item_id)
        return [stopped, *self._committed(item)]

    def _flushed(self, at_sample: int) -> list[Frame]:
        """The commit that asked for it is answered: by a turn that ended since, else by one without words."""
        if not self._commits or self._commits[0] > at_sample + TOLERANCE_SAMPLES:
            return []
        sample = self._commits.popleft()
        return [] if sample == self._answered_sample else self._empty_turn(sample)

    def _wordless(self) -> list[Frame]:
        """The turns of commits that the end came before."""
        return [frame for sample in self._commits for frame in self._empty_turn(sample)]

    def _empty_turn(self, sample: int) -> list[Frame]:
        item = self._items.stray(sample)
        return [*self._committed(item), *self._completed([item])]

    def _partial(self, event: Partial) -> list[Frame]:
        item, frames = self._owner(event)
        is_first = not self._new_words.shown(event.utterance_id)
        delta = self._new_words.partial(event)
        if delta is None or item is None or item.discarded:
            return frames
        return [*frames, self._frames.delta(item, delta.text, starts=is_first)]

    def _final(self, event: Final) -> list[Frame]:
        item, frames = self._owner(event)
        if item is None:
            # its turn was given up: what was said is not
            stray = self._items.stray(event.start_sample)
            frames = self._committed(stray)
            stray.add(event)
            return frames + self._spoken(stray, event) + self._completed([stray])
        frames += self._completed(self._items.take_before(item))
        shown = self._new_words.shown(event.utterance_id)
        delta = self._new_words.final(event)
        if delta.text and delta.keep_chars == len(shown) and not item.discarded:
            frames.append(self._frames.delta(item, delta.text, starts=not shown))
        item.add(event)
        frames += self._spoken(item, event)
        return frames + self._completed(self._items.take_over_at(event.begins_next))

    def _spoken(self, item: Item, event: Final) -> list[Frame]:
        """The segments that are due with a final."""
        if not self._session.tells_speakers or item.discarded or not event.text:
            return []
        return [*self._segments.final(item.item_id, event)]

    def _session_error(self, event: SessionError) -> list[Frame]:
        code, item = event.code.lower(), self._items.first_ended()
        if event.code != InferenceError.code or item is None:
            return [self._error("server_error", code, event.message)]
        self._items.remove(item)
        error = records.FailedFields(type="server_error", code=code, message=event.message, param=None)
        return [] if item.discarded else [self._frames.failed(item, error)]

    def _session_ended(self, reason: EndReason) -> list[Frame]:
        """What is still open is completed; what was cut off by us or the client has failed."""
        frames: list[Frame] = []
        for item in self._items.take_all():
            if item.discarded:
                continue
            if item.ended_sample is None:
                if not item.text:
                    continue
                frames += self._committed(item)
            if reason in (EndReason.ERROR, EndReason.CANCELLED):
                message = "the session ended before this was transcribed"
                error = records.FailedFields(
                    type="server_error", code="session_ended", message=message, param=None
                )
                frames.append(self._frames.failed(item, error))
            else:
                frames += self._completed([item])
        return frames

    # items

    @property
    def _received_samples(self) -> int:
        audio_format = self._session.format
        num_samples = self._num_bytes // SAMPLE_BYTES[audio_format.encoding]
        return num_samples * SAMPLE_RATE_HZ // audio_format.rate_hz

    def _owner(self, event: Partial | Final) -> tuple[Item | None, list[Frame]]:
        """The turn that the text belongs to; one that only a commit can end begins with its first text."""
        item = self._items.owner(event.start_sample, event.end_sample)
        is_new = event.start_sample + TOLERANCE_SAMPLES >= self._mark_sample
        if item is None and self._session.turn_detection is None and is_new:
            return self._open_item()
        return item, []

    def _begin(self, onset_sample: int, *, discarded: bool = False) -> tuple[Item, list[Frame]]:
        item, given_up = self._items.begin(onset_sample, discarded=discarded)
        return item, self._completed([given_up] if given_up is not None else [])

    def _open_item(self) -> tuple[Item, list[Frame]]:
        """The turn since the last commit, without detection."""
        item = self._items.open_item
        return (item, []) if item is not None else self._begin(self._mark_sample)

    def _committed(self, item: Item) -> list[Frame]:
        return [*self._frames.committed(item, self._items.committed_after(item))]

    def _completed(self, items: Iterable[Item]) -> list[Frame]:
        wanted = (item for item in items if not item.discarded)
        return [self._frames.completed(item, logprobs=self._session.logprobs) for item in wanted]


def _ms(num_samples: int) -> float:
    return num_samples * 1000 / SAMPLE_RATE_HZ
