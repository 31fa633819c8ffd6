"""The doors for browser demos: interim and final messages, and WhisperLiveKit's protocol."""

from __future__ import annotations

from typing import Final

from serve_app.protocols.browser import first_frame, interim_final, whisper_live_kit
from serve_app.protocols.browser import records as browser
from serve_app.protocols.choices import SessionQuery
from serve_app.protocols.doors import Channel, Message, Query, messages
from serve_app.protocols.native.dialect import TextOptions

_INTERIM_FINAL: Final = messages(
    browser.Interim, browser.Final, browser.Revision, browser.LoadStatus, browser.LiveError
)

DOORS: Final = (
    Channel(
        path="/ws",
        name="firstFrame",
        summary="Interim and final messages where a text frame comes first, WhisperLiveKit's updates else",
        queries=(
            Query(SessionQuery),
            Query(TextOptions),
            Query(first_frame.ProtocolChoice),
            Query(whisper_live_kit.UpdateChoices, frozenset({"mode"})),
        ),
        received=(
            Message("audio", summary="Raw samples, or a container, which an empty frame ends."),
            *messages(interim_final.Start, interim_final.Set, interim_final.Stop),
        ),
        sent=(*_INTERIM_FINAL, *messages(browser.TranscriptUpdate, browser.ReadyToStop)),
        prefix="Browser",
        dialect=lambda opening: first_frame.FirstFrameDialect(
            opening.parameters, protocol=opening.ws_protocol
        ),
    ),
    Channel(
        path="/asr",
        name="whisperLiveKit",
        summary="WhisperLiveKit's protocol",
        queries=(Query(SessionQuery), Query(whisper_live_kit.UpdateChoices)),
        received=(
            Message("audio", summary="A container's bytes or raw samples; an empty frame is the end."),
        ),
        sent=messages(browser.Config, browser.Update, browser.Snapshot, browser.Diff, browser.ReadyToStop),
        prefix="Browser",
        dialect=lambda opening: whisper_live_kit.WhisperLiveKitDialect(opening.parameters),
    ),
)
