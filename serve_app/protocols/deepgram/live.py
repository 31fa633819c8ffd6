"""Deepgram's live protocol, `WS /v1/listen`: options in the query, audio in binary frames.

    client                              server
    binary frames                   ->
                                    <-  SpeechStarted, Results, UtteranceEnd
    KeepAlive                       ->  (nothing)
    Finalize {channel?}             ->
                                    <-  Results {from_finalize: true}, empty where nothing was said
    Configure {keyterms?}           ->
                                    <-  ConfigureSuccess; ConfigureFailure where features are to change
    CloseStream | empty binary      ->
                                    <-  Results ..., Metadata, close
    (anything else)                 ->
                                    <-  Error {variant: "SchemaError"}

What is wrong with the query is said in the answer to the handshake where the server can give one, else in an
`Error` and a close behind it.

Interim results are `is_final: false`; a final that a pause ended is `speech_final`, one that was cut for its
length is not. Times are seconds from the first sample. Our additions: `warnings` in the metadata.

With `diarize` the words of finals have `speaker`, as far as it is known by then: nothing is held back for it,
and nothing in this protocol corrects what was said before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET

from serve_app.audio.pcm import SAMPLE_BYTES
from serve_app.core.errors import (
    InvalidAudio,
    InvalidMessage,
    SottoError,
    UnsupportedFormat,
)
from serve_app.core.events import (
    Event,
    Final,
    Partial,
    SessionEnded,
    SessionError,
    SpeechEnded,
    SpeechStarted,
)
from serve_app.core.keyterms import Keyterm
from serve_app.core.samples import SAMPLE_RATE_HZ
from serve_app.protocols.choices import Parameters, decode_message
from serve_app.protocols.deepgram import records
from serve_app.protocols.deepgram.options import ListenOptions, join_hotwords, parse_options
from serve_app.protocols.deepgram.pauses import BEAT_S, Pauses
from serve_app.protocols.deepgram.results import (
    Result,
    Stream,
    error_message,
    results_message,
    timestamp,
    warning_records,
)
from serve_app.protocols.deepgram.wording import seconds, timed_words
from serve_app.protocols.dialect import (
    Audio,
    Command,
    Dialect,
    End,
    EndUnlessMore,
    Farewell,
    Flush,
    Frame,
    KeepAlive,
    Open,
    RawAudio,
    Reconfigure,
    Reply,
    Totals,
)
from sotto_client.wire import Written

MAX_COMMAND_BYTES = 64 * 1024
MAX_ECHO_CHARS = 200
MAX_REASON_BYTES = 123
"""Of a close frame (RFC 6455, section 5.5)."""

UNDECODABLE = "DATA-0000"
"""Deepgram's name for audio that is none."""


class KeepAliveMessage(msgspec.Struct, frozen=True, tag_field="type", tag="KeepAlive"):
    pass


class Finalize(msgspec.Struct, frozen=True, tag_field="type", tag="Finalize"):
    channel: int | None = None


class CloseStream(msgspec.Struct, frozen=True, tag_field="type", tag="CloseStream"):
    pass


class Configure(msgspec.Struct, frozen=True, tag_field="type", tag="Configure"):
    keyterms: list[str] | None = None
    features: dict[str, bool] | None = None


ClientMessage = KeepAliveMessage | Finalize | CloseStream | Configure

_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_encoder = msgspec.json.Encoder()


class DeepgramDialect(Dialect):
    """One connection; `parameters` are those of its address, `created` is when it was made.

    `check_model` raises `InvalidMessage` for a model that no one may ask for.
    """

    heartbeat_s: float | None = BEAT_S

    def __init__(
        self,
        parameters: Parameters,
        *,
        request_id: str,
        created: datetime,
        check_model: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._parameters = tuple(parameters)
        self._check_model = check_model
        self._options = ListenOptions()
        self._stream = Stream(request_id, created)
        self._pauses = [Pauses()]
        self._received_s = 0.0
        self._model = ""
        self._last_text: str | None = None
        self._refused = ""
        self._is_open = self._is_closing = self._has_warned = self._has_audio = False

    # -- from the client ---------------------------------------------------------------------------

    def open_at_once(self) -> Sequence[Command]:
        """The address says it all. Raises `InvalidMessage` or `UnsupportedLanguage`, naming the option."""
        options = self._options = parse_options(self._parameters, live=True)
        self._check_model(options.model)
        self._stream = Stream(
            self._stream.request_id, self._stream.created, options.text, options.multilingual
        )
        self._pauses = [Pauses() for _ in range(options.num_streams)]
        return [Open(options.session_choices(), options.audio)]

    def finishes_when_idle(self) -> bool:
        """Where pauses end results, the absence of audio does too."""
        return self._options.endpoints

    def opened(self, session_id: str) -> None:
        self._is_open = True

    def receive(self, frame: Frame) -> Sequence[Command]:
        if isinstance(frame, str):
            return self._command(frame)
        if self._is_closing:
            raise InvalidMessage("the stream is closing: no audio can follow CloseStream")
        return self._audio(frame)

    def _audio(self, data: bytes) -> list[Command]:
        if not data:
            return self._close() if self._has_audio else [EndUnlessMore()]
        self._has_audio = True
        audio = self._options.audio
        if isinstance(audio, RawAudio):
            frame_bytes = SAMPLE_BYTES[audio.encoding] * audio.channels
            self._received_s += len(data) / frame_bytes / audio.sample_rate_hz
        due = self._due()
        return [Audio(data), Reply(tuple(due))] if due else [Audio(data)]

    def _command(self, text: str) -> list[Command]:
        self._last_text = text[:MAX_ECHO_CHARS]
        message = decode_message(_decoder, text, MAX_COMMAND_BYTES)
        self._last_text = None
        if self._is_closing:
            return []
        match message:
            case Finalize(channel):
                return [self._finalize(channel)]
            case CloseStream():
                return self._close()
            case Configure():
                return self._configure(message)
            case KeepAliveMessage():
                return [KeepAlive()]

    def _finalize(self, channel: int | None) -> Flush:
        if channel is not None and not 0 <= channel < len(self._pauses):
            raise InvalidMessage(f"Finalize: channel {channel} of {len(self._pauses)}")
        for pauses in self._pauses if channel is None else [self._pauses[channel]]:
            pauses.finalize(self._received_s)
        return Flush(channel)

    def _close(self) -> list[Command]:
        self._is_closing = True
        return [End()]

    def _configure(self, message: Configure) -> list[Command]:
        """Other key terms from the next utterance on; how text is written stays as the query said."""
        keyterms = message.keyterms
        if message.features:
            return [self._configure_failure("CONFIGURE_INTERNAL_ERROR", "features stay as the query said")]
        request_id = self._stream.request_id
        if keyterms is None:
            return [Reply((self._frame(records.ConfigureSuccess(request_id=request_id)),))]
        try:
            hotwords = join_hotwords(Keyterm(term.strip()) for term in keyterms)
        except InvalidMessage as error:
            return [self._configure_failure("CONFIGURE_KEYTERM_LIMIT_EXCEEDED", str(error))]
        choices = msgspec.structs.replace(self._options.session_choices(), hotwords=hotwords)
        reply = records.ConfigureSuccess(request_id=request_id, keyterms=list(keyterms))
        return [Reconfigure(choices), Reply((self._frame(reply),))]

    def _configure_failure(self, code: str, description: str) -> Reply:
        message = records.ConfigureFailure(
            request_id=self._stream.request_id, code=code, description=description
        )
        return Reply((self._frame(message),))

    # -- to the client -----------------------------------------------------------------------------

    def send(self, event: Event, channel: int = 0) -> Sequence[Frame]:
        pauses, index = self._pauses[channel], self._index(channel)
        match event:
            case Partial():
                return [self._partial(event, index)] if self._options.interim_results else []
            case Final():
                return [*self._final(event, channel), *self._due()]
            case SpeechStarted(at_sample):
                pauses.speech_started(at_sample)
                frames = self._due()
                if self._options.vad_events:
                    timestamp_s = seconds(at_sample / SAMPLE_RATE_HZ)
                    frames.append(self._frame(records.SpeechStarted(channel=index, timestamp=timestamp_s)))
                return frames
            case SpeechEnded(at_sample):
                pauses.speech_ended(at_sample)
                return []
            case SessionError(code, message):
                return [self._frame(error_message(code, message))]
            case SessionEnded(total_samples=total_samples):
                pauses.ended(total_samples / SAMPLE_RATE_HZ)
                return self._due(ended=channel)
            case _:
                return []

    def _partial(self, event: Partial, index: list[int]) -> Frame:
        start_s, end_s = event.start_sample / SAMPLE_RATE_HZ, event.end_sample / SAMPLE_RATE_HZ
        words = timed_words((), event.text, start_s, end_s, event.confidence)
        return self._results(
            Result(start_s, end_s, words, event.confidence, event.language, is_final=False),
            index,
            event.timing.model,
        )

    def _final(self, event: Final, channel: int) -> list[Frame]:
        start_s, end_s = event.start_sample / SAMPLE_RATE_HZ, event.end_sample / SAMPLE_RATE_HZ
        words = timed_words(event.words, event.text, start_s, end_s, event.confidence, event.speaker)
        last_word_end_s = words[-1].end_s if words else end_s
        paused, answers = self._pauses[channel].final(event, last_word_end_s, self._received_s)
        result = Result(
            start_s,
            end_s,
            words,
            event.confidence,
            event.language,
            speech_final=paused and self._options.endpoints,
            from_finalize=answers,
        )
        return [self._results(result, self._index(channel), event.timing.model)]

    def heartbeat(self, received_ms: float) -> Sequence[Frame]:
        self._received_s = max(self._received_s, received_ms / 1000)
        return self._due(beat=True)

    def _due(self, *, beat: bool = False, ended: int | None = None) -> list[Frame]:
        """What time alone has made due: `UtteranceEnd`, and empty answers to `Finalize`."""
        frames = []
        gap_ms = self._options.utterance_end_ms
        for channel, pauses in enumerate(self._pauses):
            index = self._index(channel)
            if pauses.unanswered_finalize(self._received_s, beat=beat, ended=ended == channel):
                nothing = Result(self._received_s, self._received_s, from_finalize=True)
                frames.append(self._results(nothing, index))
            if gap_ms is not None:
                last_word_end_s = pauses.utterance_end(gap_ms / 1000, self._received_s)
                if last_word_end_s is not None:
                    end_s = seconds(last_word_end_s)
                    frames.append(self._frame(records.UtteranceEnd(channel=index, last_word_end=end_s)))
        return frames

    def _results(self, result: Result, index: list[int], model: str = "") -> Frame:
        self._model = model or self._model
        warnings = () if self._has_warned else self._options.warnings
        self._has_warned = True
        return self._frame(results_message(result, self._stream, index, self._model, warnings))

    def refuse(self, error: SottoError) -> Sequence[Frame]:
        text, self._last_text = self._last_text, None
        variant = error.code
        if text is not None and isinstance(error, InvalidMessage):
            variant = "SchemaError"
        elif isinstance(error, InvalidAudio | UnsupportedFormat):
            variant = UNDECODABLE
        message = error_message(variant, str(error), text if variant == "SchemaError" else None)
        self._refused = f"{variant}: {message.description}"
        return [self._frame(message)]

    def farewell(self, close_code: int, totals: Totals) -> Farewell:
        why = "" if close_code == 1000 else self._refused
        reason = why.encode()[:MAX_REASON_BYTES].decode("utf-8", "ignore")
        if not self._is_open:
            return Farewell((), close_code, reason)
        metadata = records.Metadata(
            request_id=self._stream.request_id,
            sha256=totals.sha256,
            created=timestamp(self._stream.created),
            duration=round(totals.audio_ms / 1000, 3),
            channels=self._options.channels,
            tags=list(self._options.tags) or UNSET,
            extra=dict(self._options.extra) or UNSET,
            warnings=warning_records(self._options.warnings),
        )
        return Farewell((self._frame(metadata),), close_code, reason)

    def _index(self, channel: int) -> list[int]:
        return [channel, len(self._pauses)]

    def _frame(self, message: Written) -> Frame:
        return _encoder.encode(message).decode()
