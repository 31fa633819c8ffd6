"""Uploads: `POST /transcribe`, one recording in, one answer out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import msgspec

from sotto_client.addresses import DEFAULT_URL, authorization, http_url, is_loopback
from sotto_client.errors import RequestFailed, ServerUnreachable
from sotto_client.wire import Segment as TranscribedSegment
from sotto_client.wire import Transcript, Word

__all__ = [
    "TranscribedSegment",
    "Transcription",
    "UploadOptions",
    "failure_of",
    "parse_transcription",
    "transcribe_file",
    "transcribe_file_as",
]

PATH = "/transcribe"
MAX_DETAIL_CHARS = 500

WARNING_HEADER = "x-transcript-warning"
"""What is wrong with the audio, also for text and subtitles, which have no place for it."""
COMPLETE_HEADER = "x-transcript-complete"
"""`false` where some of the audio could not be decoded; only beside a warning."""

UploadProgress = Callable[[int, int], None]
"""Called with bytes sent and bytes in all; the answer takes its time after the last byte."""

OnWarning = Callable[[str, bool], None]
"""Called with what is wrong with the audio, and whether all of it could be decoded all the same."""


class Transcription(Transcript, frozen=True, kw_only=True):
    """The answer of `POST /transcribe`; `body` is all of it as it came."""

    words: tuple[Word, ...] = ()
    speakers: tuple[str, ...] = ()
    warning: str = ""
    complete: bool = True
    body: dict[str, Any] = {}


_NOT_IN_QUERY = frozenset({"api_key", "timeout_s"})


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """What is None is left to the server. `timeout_s` bounds the wait for the answer after the upload.

    `diarize` asks who spoke; with it, how many may: exactly `num_speakers`, or within bounds. The
    `diarization_backend` "channel" means one speaker on each channel. `audio_track`: which of several, from
    0.
    """

    language: str | None = None
    task: str | None = None
    prompt: str | None = None
    word_timestamps: bool | None = None
    vad_filter: bool | None = None
    diarize: bool | None = None
    num_speakers: int | None = None
    min_speakers: int | None = None
    max_speakers: int | None = None
    diarization_backend: str | None = None
    audio_track: int | None = None
    api_key: str | None = None
    timeout_s: float = 4 * 3600.0

    def query(self) -> dict[str, str]:
        chosen = {name: getattr(self, name) for name in self.__slots__ if name not in _NOT_IN_QUERY}
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in chosen.items()
            if value is not None
        }


async def transcribe_file(
    path: Path,
    *,
    url: str = DEFAULT_URL,
    options: UploadOptions | None = None,
    progress: UploadProgress | None = None,
) -> Transcription:
    """Upload a file and return its transcript. Raises `OSError`, `ServerUnreachable`, `RequestFailed`."""
    response = await _upload(path, url, options or UploadOptions(), "json", progress)
    try:
        return parse_transcription(response.json())
    except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise RequestFailed(response.status_code, f"an answer of an unknown shape ({error!r})") from error


async def transcribe_file_as(
    path: Path,
    response_format: str,
    *,
    url: str = DEFAULT_URL,
    options: UploadOptions | None = None,
    progress: UploadProgress | None = None,
    on_warning: OnWarning | None = None,
) -> str:
    """Upload a file and return the answer in "text", "srt" or "vtt" as the server wrote it.

    `on_warning` hears what is wrong with the audio, for which these formats have no place.
    """
    response = await _upload(path, url, options or UploadOptions(), response_format, progress)
    warning = response.headers.get(WARNING_HEADER)
    if warning is not None and on_warning is not None:
        on_warning(warning, response.headers.get(COMPLETE_HEADER) == "true")
    return response.text


def parse_transcription(body: Mapping[str, Any]) -> Transcription:
    """The JSON answer to a record; absent optional fields get neutral values, `complete` True.

    Raises `msgspec.ValidationError` where a field is missing or of another type.
    """
    segments = [{"avg_logprob": part.get("confidence"), "speaker": None, **part} for part in body["segments"]]
    words = [{"speaker": None, **word} for word in body.get("words") or ()]
    complete = body.get("complete", "warning" not in body)
    return msgspec.convert(
        {**body, "segments": segments, "words": words, "complete": complete, "body": body}, Transcription
    )


async def _upload(
    path: Path, base_url: str, options: UploadOptions, response_format: str, progress: UploadProgress | None
) -> httpx.Response:
    url = http_url(base_url, PATH)
    query = {**options.query(), "response_format": response_format}
    timeout = httpx.Timeout(60.0, read=options.timeout_s)
    stream: BinaryIO = await asyncio.to_thread(path.open, "rb")
    with stream:
        body = _CountedFile(stream, os.fstat(stream.fileno()).st_size, progress)
        try:
            async with httpx.AsyncClient(timeout=timeout, trust_env=not is_loopback(url)) as client:
                response = await client.post(
                    url,
                    params=query,
                    headers=authorization(options.api_key),
                    files={"file": (path.name, body, "application/octet-stream")},  # type: ignore[dict-item]
                )
        except httpx.TransportError as error:
            raise ServerUnreachable(url, repr(error)) from error
    if not response.is_success:
        raise failure_of(response.status_code, response.content, response.headers)
    return response


def failure_of(status: int, body: bytes, headers: Mapping[str, str]) -> RequestFailed:
    """The server's refusal; the explanation is its `detail` or `error` field, or the bare body."""
    import json

    text = body.decode("utf-8", "replace")
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    detail: object = text
    if isinstance(fields, dict):
        detail = fields.get("detail") or fields.get("message") or fields.get("error") or text
    retry_after = headers.get("retry-after", "")
    return RequestFailed(
        status,
        str(detail).strip()[:MAX_DETAIL_CHARS],
        float(retry_after) if retry_after.isdigit() else None,
    )


class _CountedFile:
    """A file that reports how much of it has been read."""

    def __init__(self, stream: BinaryIO, size_bytes: int, progress: UploadProgress | None) -> None:
        self._stream = stream
        self._size_bytes = size_bytes
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        if self._progress is not None:
            self._progress(self._stream.tell(), self._size_bytes)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def fileno(self) -> int:
        return self._stream.fileno()
