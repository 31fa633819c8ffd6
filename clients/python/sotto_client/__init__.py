"""Clients of a running Sotto: live sessions, uploads and streaming uploads, async and blocking."""

from sotto_client.errors import (
    ConnectionLost,
    GaveUp,
    RequestFailed,
    ServerUnreachable,
    SessionFailed,
    SottoClientError,
)
from sotto_client.live import LiveClient, SessionConfig
from sotto_client.live_streams import stream_file, stream_samples
from sotto_client.recordings import Transcription, UploadOptions, transcribe_file, transcribe_file_as
from sotto_client.resuming import ResumingClient
from sotto_client.streams import transcribe_stream

__version__ = "0.1.0"

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
    "__version__",
    "stream_file",
    "stream_samples",
    "transcribe_file",
    "transcribe_file_as",
    "transcribe_stream",
]
