"""WhisperLiveKit's protocol: audio in, the whole transcript out after every change.

    client                                       server
                                             <-  config {useAudioWorklet, mode}      (`/asr` only)
    binary frames (webm, ogg, ... or PCM16)  ->
                                             <-  {status, lines, buffer_transcription, ...}
    an empty binary frame                    ->
                                             <-  ready_to_stop, close

An empty frame before any audio ends only where nothing follows: Safari's recorder begins with one.

`/asr` writes times as H:MM:SS and has no `type` in its updates; with `mode=diff` they are a `snapshot`, then
`diff`s numbered by `seq`: the client drops `lines_pruned` lines in front, cuts its list to `n_lines -
len(new_lines)` and adds `new_lines`. `/ws` writes `type: transcript_update` and times as seconds. A line of
speaker -2 is silence, one of speaker 0 waits for its own; where speakers are not told apart, all are 1.
`full` updates correct the speakers of earlier lines; with `mode=diff`, whose lines stay as they were sent,
text waits in `buffer_diarization` until its speakers are known. Every update repeats all lines, of which the
newest 400 are kept. Close codes: 4400 for parameters that make no sense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from serve_app.core.errors import InvalidMessage, SottoError
from serve_app.core.events import (
    Event,
    Final,
    ModelStatus,
    Partial,
    SessionEnded,
    SessionError,
    SessionStarted,
    SpeakerRevision,
)
from serve_app.core.jobs import Task
from serve_app.models.languages import normalise_language
from serve_app.protocols.browser import records
from serve_app.protocols.choices import (
    LanguageName,
    Parameters,
    SessionChoices,
    choices_from_query,
    convert_parameters,
)
from serve_app.protocols.dialect import (
    Audio,
    Command,
    ContainerAudio,
    Dialect,
    End,
    EndUnlessMore,
    Farewell,
    Frame,
    Open,
    RawAudio,
    Totals,
)
from serve_app.protocols.transcript_lines import Line, LineDiff, TranscriptLines, clock
from sotto_client.wire import Written

PARAMETERS_CLOSE = 4400

_encoder = msgspec.json.Encoder()


class UpdateChoices(msgspec.Struct, frozen=True, kw_only=True):
    """What the address says of the updates."""

    mode: Annotated[
        Literal["full", "diff"],
        Meta(description="`full`: every update repeats all lines; `diff`: only what changed."),
    ] = "full"
    target_language: Annotated[
        LanguageName | None, Meta(description="`en` translates into English; there is no other.")
    ] = None


class WhisperLiveKitDialect(Dialect):
    """One connection. `typed`: the shape of `/ws`, else that of `/asr`."""

    def __init__(self, parameters: Parameters = (), *, typed: bool = False) -> None:
        self._parameters = tuple(parameters)
        self._typed = typed
        self._is_open = False
        self._options = UpdateChoices()
        self._refused_parameters = False
        self._lines = TranscriptLines()
        self._diff = LineDiff()
        self._seq = 0
        self._stalled_s = 0.0

    def accepted(self) -> Sequence[Frame]:
        if self._typed:
            return ()
        diff = dict(self._parameters).get("mode") == "diff"
        return (_encoded(records.Config(mode="diff" if diff else "full")),)

    def open_at_once(self) -> Sequence[Command]:
        """Only looks at the address: the session opens with the first audio."""
        self._open()
        return ()

    def finishes_when_idle(self) -> bool:
        return True

    def names_speakers(self) -> None:
        self._lines = TranscriptLines(speakers=True, append_only=self._sends_changes)

    def opened(self, session_id: str) -> None:
        self._is_open = True

    # what the client says

    def receive(self, frame: Frame) -> Sequence[Command]:
        if isinstance(frame, str):
            raise InvalidMessage("expected audio in binary frames")
        if not frame:
            return (End() if self._is_open else EndUnlessMore(),)
        return (Audio(frame),) if self._is_open else (self._open(), Audio(frame))

    def _open(self) -> Open:
        self._refused_parameters = True
        session_id, choices = choices_from_query(self._parameters)
        self._options = convert_parameters(self._parameters, UpdateChoices)
        choices = _translated(choices, self._options.target_language)
        for name in (choices.language, choices.lang_code):
            normalise_language(name or "auto")
        self._refused_parameters = False
        raw = RawAudio(choices.pcm_encoding, choices.sample_rate_hz, choices.num_channels)
        announced = choices.encoding is not None or choices.sample_rate is not None
        return Open(choices, raw if announced else ContainerAudio(or_raw=raw), session_id)

    # what the server says

    def send(self, event: Event, channel: int = 0) -> Sequence[Frame]:
        match event:
            case SessionStarted():
                return (self._update(),)
            case Partial():
                self._lines.partial(event)
                return (self._update(),)
            case Final():
                self._lines.final(event)
                return (self._update(),)
            case SpeakerRevision():
                return (self._update(),) if self._lines.revise(event) else ()
            case SessionEnded():
                return (self._update(),) if self._lines.settle() else ()
            case ModelStatus(stalled, _, waited_s):
                self._stalled_s = waited_s if stalled else 0.0
                return (self._update(),)
            case SessionError(_, message):
                return (self._update(error=message),)
            case _:
                return ()

    @property
    def _sends_changes(self) -> bool:
        return self._options.mode == "diff" and not self._typed

    def _update(self, error: str | None = None) -> str:
        if self._sends_changes:
            return self._changes(error)
        lines = self._lines.lines()
        status, rest = self._status(lines, error), self._rest(self._lines.buffer(), error)
        if self._typed:
            seconds = [_seconds_line(line) for line in lines]
            return _encoded(records.TranscriptUpdate(status=status, lines=seconds, **rest))
        clocks = [_clock_line(line) for line in lines]
        return _encoded(records.Update(status=status, lines=clocks, **rest))

    def _changes(self, error: str | None) -> str:
        """Only finished lines: upstream's own client appends `new_lines` and never cuts what it has."""
        lines = self._lines.finished()
        change = self._diff.change(lines, self._lines.num_pruned)
        self._seq += 1
        status, rest = self._status(lines, error), self._rest(self._lines.unfinished(), error)
        if self._seq == 1:
            clocks = [_clock_line(line) for line in lines]
            return _encoded(records.Snapshot(status=status, lines=clocks, **rest))
        return _encoded(
            records.Diff(
                seq=self._seq,
                status=status,
                n_lines=change.num_lines,
                lines_pruned=change.num_pruned or UNSET,
                new_lines=[_clock_line(line) for line in change.new] or UNSET,
                **rest,
            )
        )

    def _status(self, lines: list[Line], error: str | None) -> records.Status:
        if error is not None:
            return "error"
        buffer = self._lines.buffer() or self._lines.unattributed()
        return "active_transcription" if lines or buffer else "no_audio_detected"

    def _rest(self, buffer: str, error: str | None) -> dict[str, Any]:
        """What every update has beside its lines."""
        lag_s = round(max(self._lines.lag_s, self._stalled_s), 2)
        return {
            "buffer_transcription": buffer,
            "buffer_diarization": self._lines.unattributed(),
            "buffer_translation": "",
            "remaining_time_transcription": lag_s,
            "remaining_time_transcription_processing": lag_s,
            "remaining_time_transcription_policy": 0.0,
            "remaining_time_diarization": round(self._lines.speaker_lag_s, 2),
            "error": UNSET if error is None else error,
        }

    def refuse(self, error: SottoError) -> Sequence[Frame]:
        return (self._update(error=str(error)),)

    def farewell(self, close_code: int, totals: Totals) -> Farewell:
        if self._refused_parameters:
            return Farewell((), PARAMETERS_CLOSE, "invalid parameters")
        return Farewell((_encoded(records.ReadyToStop()),) if close_code == 1000 else (), close_code)


def _translated(choices: SessionChoices, target_language: str | None) -> SessionChoices:
    """English is the one language that the models translate into. Raises `InvalidMessage` for others."""
    if not target_language:
        return choices
    if normalise_language(target_language) != "en":
        raise InvalidMessage(f"no translation into {target_language!r}: only into English")
    return msgspec.structs.replace(choices, task=Task.TRANSLATE)


def _clock_line(line: Line) -> records.ClockLine:
    return records.ClockLine(
        speaker=line.speaker,
        text=line.text,
        start=clock(line.start_s),
        end=clock(line.end_s),
        detected_language=UNSET if line.language is None else line.language,
    )


def _seconds_line(line: Line) -> records.SecondsLine:
    return records.SecondsLine(
        speaker=line.speaker,
        text=line.text,
        start=round(line.start_s, 2),
        end=round(line.end_s, 2),
        detected_language=UNSET if line.language is None else line.language,
    )


def _encoded(message: Written) -> str:
    return _encoder.encode(message).decode()
