"""`/ws` with a text frame first: interim, final and status messages on the wall clock.

    client                                   server
    {"event":"start","language":"auto"}  ->
    binary frames (PCM16, 16 kHz, mono)  ->
                                         <-  interim {conn, text, stable_chars, t0, t1}
                                         <-  final {conn, text, segments, language, t0, t1}
                                         <-  status {backpressure, cooldown_ms, tail_s, interim_paused}
    {"event":"set","interimRate":4}      ->
    {"event":"stop"}                     ->

`start` may be left out: the first audio starts the session. `t0` and `t1` are Unix seconds, the times of a
segment seconds from `t0`; `interimRate` is interims a second. Our addition is `error {code, message}`, and in
only-new-words mode `keep_chars` (see `deltas`): `text` of an interim is then only what is new, and a final
has `new_text`. Where speakers are told apart, a final and its segments have `speaker` (`SPEAKER_01`, null
where it is not known yet), segments end where another speaker begins, and `speaker_revision {conn, speaker,
segments, t0, t1}` corrects the final of the same `t0` and `t1`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from serve_app.core.errors import SottoError
from serve_app.core.events import (
    Event,
    Final,
    ModelStatus,
    Partial,
    SessionError,
    SpeakerRevision,
)
from serve_app.core.jobs import Word
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.models.languages.writing import SENTENCE_ENDS
from serve_app.protocols.browser import records
from serve_app.protocols.choices import (
    LanguageName,
    Parameters,
    SessionChoices,
    choices_from_query,
    convert_parameters,
    decode_message,
)
from serve_app.protocols.deltas import NewWords
from serve_app.protocols.dialect import (
    Audio,
    Command,
    Dialect,
    End,
    Frame,
    Load,
    Open,
    RawAudio,
    Reconfigure,
)
from serve_app.protocols.native.dialect import TextOptions
from serve_app.protocols.speaker_runs import SentFinals, speaker_runs
from serve_app.session.options import MAX_INTERVAL_MS, MIN_INTERVAL_MS
from serve_app.session.overlap import join_words
from serve_app.speakers.turns import known_label
from sotto_client.wire import Written

MAX_CONTROL_CHARS = 16 * 1024
STATUS_CHECK_S = 1.0
STATUS_EVERY = 5
NO_LOAD = Load("normal", interval_ms=0, window_s=0.0, interims_paused=False)
"""Before the first was told."""
"""Checks after which an unchanged status is sent again."""


class Start(msgspec.Struct, frozen=True, tag_field="event", tag="start"):
    language: LanguageName | None = None


class Set(msgspec.Struct, frozen=True, tag_field="event", tag="set"):
    interimRate: Annotated[float, Meta(ge=0, le=1000)] | None = None  # noqa: N815 - the wire's name


class Stop(msgspec.Struct, frozen=True, tag_field="event", tag="stop"):
    pass


Control: TypeAlias = Start | Set | Stop
_decoder: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Start | Set | Stop)
_encoder = msgspec.json.Encoder()


class InterimFinalDialect(Dialect):
    """One connection; `parameters` are those of its address (`language` and the choices of a session)."""

    status_s: float | None = STATUS_CHECK_S

    def __init__(self, parameters: Parameters = ()) -> None:
        self._parameters = tuple(parameters)
        self._conn = ""
        self._asked = False
        self._changes = SessionChoices()
        self._unix_s = 0.0
        self._new_words: NewWords | None = None
        self._sent: SentFinals | None = None
        self._status: tuple[Load, int] | None = None

    def finishes_when_idle(self) -> bool:
        return True

    def names_speakers(self) -> None:
        self._sent = SentFinals()

    def opened(self, session_id: str) -> None:
        self._asked = True
        self._conn = f"conn_{session_id.removeprefix('session-')}"

    def anchored(self, unix_s: float) -> None:
        self._unix_s = unix_s

    # what the client says

    def receive(self, frame: Frame) -> Sequence[Command]:
        if isinstance(frame, bytes):
            audio = Audio(frame)
            return (audio,) if self._asked else (self._open(None), audio)
        match decode_message(_decoder, frame, MAX_CONTROL_CHARS):
            case Start(language):
                return (self._open(language),)
            case Set(rate):
                return self._set(rate)
            case Stop():
                return (End(),)

    def _open(self, language: str | None) -> Open:
        session_id, choices = choices_from_query(self._parameters)
        options = convert_parameters(self._parameters, TextOptions)
        self._new_words = NewWords() if options.only_new_words else None
        if language is not None:
            choices = msgspec.structs.replace(choices, language=language, lang_code=None)
        changed = {
            name: value for name in _RATE_FIELDS if (value := getattr(self._changes, name)) is not None
        }
        choices = msgspec.structs.replace(choices, **changed)
        audio = RawAudio(choices.pcm_encoding, choices.sample_rate_hz, choices.num_channels)
        return Open(choices, audio, session_id)

    def _set(self, rate: float | None) -> Sequence[Command]:
        """No interims at rate 0; the interval is held to what a session may have."""
        if rate is None:
            return ()
        if rate == 0:
            self._changes = SessionChoices(partial_results=False)
        else:
            interval_ms = min(MAX_INTERVAL_MS, max(MIN_INTERVAL_MS, round(1000 / max(rate, 1e-3))))
            self._changes = SessionChoices(partial_results=True, partial_interval_ms=interval_ms)
        return (Reconfigure(self._changes),)

    # what the server says

    def send(self, event: Event, channel: int = 0) -> Sequence[Frame]:
        match event:
            case Partial():
                message: Written | None = self._interim(event)
            case Final():
                message = self._final(event)
            case SpeakerRevision():
                message = self._revision(event)
            case ModelStatus(stalled):
                message = self._load_status((self._status or (NO_LOAD, 0))[0], stalled)
            case SessionError(code, text):
                message = self._error(code, text)
            case _:
                message = None
        return () if message is None else (_encoded(message),)

    def _interim(self, event: Partial) -> records.Interim | None:
        delta = None
        if self._new_words is not None:
            delta = self._new_words.partial(event)
            if delta is None:
                return None
        t0, t1 = self._times(event)
        return records.Interim(
            conn=self._conn,
            text=event.text if delta is None else delta.text,
            stable_chars=event.stable_chars if delta is None else len(delta.text),
            keep_chars=UNSET if delta is None else delta.keep_chars,
            t0=t0,
            t1=t1,
        )

    def _final(self, event: Final) -> records.Final:
        delta = None if self._new_words is None else self._new_words.final(event)
        if self._sent is not None:
            self._sent.add(event)
        t0, t1 = self._times(event)
        return records.Final(
            conn=self._conn,
            text=event.text,
            new_text=UNSET if delta is None else delta.text,
            keep_chars=UNSET if delta is None else delta.keep_chars,
            speaker=UNSET if self._sent is None else known_label(event.speaker),
            segments=segments_of(event, speakers=self._sent is not None),
            language=event.language,
            t0=t0,
            t1=t1,
        )

    def _revision(self, event: SpeakerRevision) -> records.Revision | None:
        final = None if self._sent is None else self._sent.revise(event)
        if final is None:
            return None
        t0, t1 = self._times(final)
        return records.Revision(
            conn=self._conn,
            speaker=known_label(final.speaker),
            segments=segments_of(final, speakers=True),
            t0=t0,
            t1=t1,
        )

    def _times(self, event: Partial | Final) -> tuple[float, float]:
        """In Unix seconds."""
        return (
            round(self._unix_s + event.start_sample / SAMPLE_RATE_HZ, 3),
            round(self._unix_s + event.end_sample / SAMPLE_RATE_HZ, 3),
        )

    def refuse(self, error: SottoError) -> Sequence[Frame]:
        return (_encoded(self._error(error.code, str(error))),)

    def _error(self, code: str, message: str) -> records.LiveError:
        return records.LiveError(conn=self._conn or None, code=code, message=message)

    def status(self, load: Load) -> Sequence[Frame]:
        """At once when it changed, else every few checks."""
        known, age = self._status or (None, 0)
        if load == known and age + 1 < STATUS_EVERY:
            self._status = (load, age + 1)
            return ()
        self._status = (load, 0)
        return (_encoded(self._load_status(load)),)

    def _load_status(self, load: Load, stalled: bool | UnsetType = UNSET) -> records.LoadStatus:
        return records.LoadStatus(
            backpressure=load.level,
            cooldown_ms=load.interval_ms,
            tail_s=round(load.window_s, 1),
            interim_paused=load.interims_paused,
            stalled=stalled,
        )


_RATE_FIELDS = ("partial_results", "partial_interval_ms")


def segments_of(event: Final, *, speakers: bool) -> list[records.Segment]:
    """The final's sentences, each of one speaker, with their times in seconds from its start; one segment
    where it has no words. `speakers`: they are told apart."""

    def segment(start_s: float, end_s: float, text: str, speaker: int | None) -> records.Segment:
        label = known_label(speaker) if speakers else UNSET
        return records.Segment(start=round(start_s, 3), end=round(end_s, 3), text=text, speaker=label)

    if not event.words:
        duration_s = (event.end_sample - event.start_sample) / SAMPLE_RATE_HZ
        return [segment(0.0, duration_s, event.text, event.speaker)]
    start_s = event.start_sample / SAMPLE_RATE_HZ
    return [
        segment(
            max(0.0, sentence[0].start_s - start_s),
            max(0.0, sentence[-1].end_s - start_s),
            join_words(tuple(sentence)),
            run.speaker,
        )
        for run in speaker_runs(event)
        for sentence in _sentences(run.words)
    ]


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        sentence.append(word)
        if word.word.rstrip().endswith(tuple(SENTENCE_ENDS)):
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _encoded(message: Written) -> str:
    return _encoder.encode(message).decode()
