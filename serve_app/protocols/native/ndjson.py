"""`POST /transcribe/stream` as a dialect: audio in and NDJSON out over one request, both at once.

The body is a container (`audio/*`) or raw samples (`audio/pcm;rate=16000`), options are query parameters
(`choices.choices_from_query`). The lines are the native protocol's server messages, with heartbeats where
nothing else is said; the last line is `session_ended`. What is wrong before the first line is an HTTP status;
later it is an `error` line, behind which what was spoken is still delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from serve_app.core.events import EndReason, SessionEnded
from serve_app.core.samples import ms_to_samples
from serve_app.protocols.choices import Parameters, choices_from_query
from serve_app.protocols.dialect import Audio, Command, Farewell, Frame, Open, RawAudio, Totals
from serve_app.protocols.media_type import parse_audio_type
from serve_app.protocols.native.dialect import NativeDialect
from sotto_client.wire import Heartbeat

MEDIA_TYPE = "application/x-ndjson"

_encoder = msgspec.json.Encoder()


class NdjsonDialect(NativeDialect):
    """One request: `content_type` and the query's `parameters` say what its body is. A frame is a line."""

    def __init__(self, parameters: Parameters, content_type: str | None, *, heartbeat_s: float) -> None:
        super().__init__()
        self._query = tuple(parameters)
        self._content_type = content_type
        self.heartbeat_s = heartbeat_s

    def open_at_once(self) -> Sequence[Command]:
        audio = parse_audio_type(self._content_type)
        session_id, choices = choices_from_query(self._query)
        if isinstance(audio, RawAudio):
            audio = replace(
                audio,
                encoding=choices.pcm_encoding if choices.encoding else audio.encoding,
                sample_rate_hz=choices.sample_rate_hz if choices.sample_rate else audio.sample_rate_hz,
                channels=choices.channels or audio.channels,
            )
        return (Open(choices, audio, session_id, is_body=True),)

    def finishes_when_idle(self) -> bool:
        return True

    def receive(self, frame: Frame) -> Sequence[Command]:
        return (Audio(frame if isinstance(frame, bytes) else frame.encode()),)

    def heartbeat(self, received_ms: float) -> Sequence[Frame]:
        """`t_ms` is the audio that has come so far, in milliseconds from the first sample."""
        return (_encoder.encode(Heartbeat(t_ms=round(received_ms, 2))).decode(),)

    def farewell(self, close_code: int, totals: Totals) -> Farewell:
        """The last line of a session that could not say so itself."""
        ended = SessionEnded(EndReason.ERROR, ms_to_samples(totals.audio_ms), totals.num_finals)
        return Farewell(() if totals.ended else tuple(self.send(ended)), close_code)
