"""Clients of a running Sotto: live sessions, uploads and streaming uploads, async and blocking."""

from serve_app.clients.errors import (
    ConnectionLost,
    GaveUp,
    RequestFailed,
    ServerUnreachable,
    SessionFailed,
    SottoClientError,
)
from serve_app.clients.live import LiveClient, SessionConfig
from serve_app.clients.pacing import stream_file, stream_samples
from serve_app.clients.recordings import Transcription, UploadOptions, transcribe_file, transcribe_file_as
from serve_app.clients.resuming import ResumingClient
from serve_app.clients.streams import transcribe_stream

__all__ = [
    "ConnectionLost",
    "GaveUp",
    "LiveClient",
    "RequestFailed",
    "ResumingClient",
    "ServerUnreachable",
    "SessionConfig",
    "SessionFailed",
    "SottoClientError",
    "Transcription",
    "UploadOptions",
    "stream_file",
    "stream_samples",
    "transcribe_file",
    "transcribe_file_as",
    "transcribe_stream",
]
