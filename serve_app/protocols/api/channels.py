"""The WebSocket doors as a table: what each understands and says."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from serve_app.protocols import first_frame, interim_final, native, opus_stream, whisper_live_kit
from serve_app.protocols.api import browser_records as browser
from serve_app.protocols.api import deepgram_records, native_records, realtime_records
from serve_app.protocols.api.operations import REPEATED, Query
from serve_app.protocols.choices import _SessionQuery as SessionQuery
from serve_app.protocols.deepgram import live as deepgram
from serve_app.protocols.deepgram import options as listen
from serve_app.protocols.native_dialect import TextOptions


@dataclass(frozen=True, slots=True)
class Message:
    """One message; no `record`: binary frames of audio. `name` is unique in its channel."""

    name: str
    record: Any = None
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Channel:
    """One path. `received` by the server, `sent` by it; `prefix` sets its records' names apart."""

    path: str
    name: str
    summary: str
    queries: tuple[Query, ...]
    received: tuple[Message, ...]
    sent: tuple[Message, ...]
    prefix: str = ""


CLOSE_CODES: Final = MappingProxyType(
    {
        1000: "Done, cancelled, idle for too long or open for too long.",
        1003: "A container that is not allowed.",
        1008: "Refused: what the address or the audio says, too many errors, or too much not read.",
        1009: "A frame over the limit.",
        1011: "Our fault.",
        1012: "The server restarts: resume, or start again.",
        1013: "Full: try again.",
        4400: "`/asr`, and `/ws` in WhisperLiveKit's protocol: parameters that make no sense.",
    }
)


def _messages(*records: Any) -> tuple[Message, ...]:
    return tuple(Message(tag_of(record), record) for record in records)


def tag_of(record: Any) -> str:
    """What the wire calls a record; its class where the wire has no name for it."""
    tag = record.__struct_config__.tag
    return str(tag) if tag is not None else record.__name__.lower()


_EVENTS: Final = _messages(
    native_records.SessionStarted,
    native_records.Ticket,
    native_records.VadEvent,
    native_records.AudioWarning,
    native_records.PartialTranscript,
    native_records.FinalTranscript,
    native_records.SpeakerRevision,
    native_records.Error,
    native_records.SessionEnded,
)
_CONTAINER: Final = Message("audio", summary="A container's bytes, cut anywhere, or raw samples.")
_CONTROLS: Final = Message("control", opus_stream._Control, "flush, end_session, cancel, ping or pong.")


def _opus_stream(path: str, name: str) -> Channel:
    return Channel(
        path=path,
        name=name,
        summary="A browser's ogg/opus or webm/opus recording in, native events out",
        queries=(Query(SessionQuery), Query(opus_stream._Options)),
        received=(_CONTAINER, _CONTROLS),
        sent=(*_EVENTS, *_messages(native_records.Ping, native_records.Pong)),
    )


_INTERIM_FINAL: Final = _messages(
    browser.Interim, browser.Final, browser.Revision, browser.LoadStatus, browser.LiveError
)

CHANNELS: Final = (
    Channel(
        path="/ws/stt",
        name="native",
        summary="The native protocol",
        queries=(Query(TextOptions),),
        received=(
            Message("audio", summary="Whole raw samples, as `start_session.config` announced them."),
            *_messages(native.StartSession, native.Flush, native.EndSession, native.Cancel),
        ),
        sent=_EVENTS,
    ),
    Channel(
        path="/ws",
        name="firstFrame",
        summary="Interim and final messages where a text frame comes first, WhisperLiveKit's updates else",
        queries=(
            Query(SessionQuery),
            Query(TextOptions),
            Query(first_frame._Options),
            Query(whisper_live_kit._Options, frozenset({"mode"})),
        ),
        received=(
            Message("audio", summary="Raw samples, or a container, which an empty frame ends."),
            *_messages(interim_final._Start, interim_final._Set, interim_final._Stop),
        ),
        sent=(*_INTERIM_FINAL, *_messages(browser.TranscriptUpdate, browser.ReadyToStop)),
        prefix="Browser",
    ),
    Channel(
        path="/asr",
        name="whisperLiveKit",
        summary="WhisperLiveKit's protocol",
        queries=(Query(SessionQuery), Query(whisper_live_kit._Options)),
        received=(
            Message("audio", summary="A container's bytes or raw samples; an empty frame is the end."),
        ),
        sent=_messages(browser.Config, browser.Update, browser.Snapshot, browser.Diff, browser.ReadyToStop),
        prefix="Browser",
    ),
    _opus_stream("/ws/stream", "opusStream"),
    _opus_stream("/api/ws/stream", "opusStreamApi"),
    Channel(
        path="/v1/listen",
        name="deepgram",
        summary="Deepgram's live protocol",
        queries=(Query(listen._Query, listen._RECORDED_ONLY, REPEATED),),
        received=(
            Message("audio", summary="Raw samples or a container; an empty frame is the end."),
            *_messages(deepgram._KeepAlive, deepgram._Finalize, deepgram._CloseStream, deepgram._Configure),
        ),
        sent=_messages(
            deepgram_records.Results,
            deepgram_records.SpeechStarted,
            deepgram_records.UtteranceEnd,
            deepgram_records.Metadata,
            deepgram_records.Error,
            deepgram_records.ConfigureSuccess,
            deepgram_records.ConfigureFailure,
        ),
        prefix="Deepgram",
    ),
    Channel(
        path="/v1/realtime",
        name="openaiRealtime",
        summary="OpenAI's Realtime transcription, GA and beta",
        queries=(Query(realtime_records.RealtimeQuery),),
        received=_messages(
            realtime_records.Update,
            realtime_records.BetaUpdate,
            realtime_records.Append,
            realtime_records.Commit,
            realtime_records.Clear,
        ),
        sent=_messages(
            realtime_records.Created,
            realtime_records.Updated,
            realtime_records.BetaCreated,
            realtime_records.BetaUpdated,
            realtime_records.SpeechStarted,
            realtime_records.SpeechStopped,
            realtime_records.Committed,
            realtime_records.Cleared,
            realtime_records.ItemCreated,
            realtime_records.ItemAdded,
            realtime_records.ItemDone,
            realtime_records.Delta,
            realtime_records.Segment,
            realtime_records.Completed,
            realtime_records.Failed,
            realtime_records.Error,
        ),
        prefix="Realtime",
    ),
)
