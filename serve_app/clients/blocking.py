"""The clients for programs without an event loop: each call runs one of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from serve_app.asr.jobs import Pcm16
from serve_app.clients import live_streams, pacing, recordings
from serve_app.clients.addresses import DEFAULT_URL
from serve_app.clients.live import SessionConfig
from serve_app.clients.messages import Message
from serve_app.clients.recordings import OnWarning, Transcription, UploadOptions, UploadProgress

Result = TypeVar("Result")


def transcribe_file(
    path: Path,
    *,
    url: str = DEFAULT_URL,
    options: UploadOptions | None = None,
    progress: UploadProgress | None = None,
) -> Transcription:
    """`recordings.transcribe_file`, waiting for the answer."""
    return asyncio.run(recordings.transcribe_file(path, url=url, options=options, progress=progress))


def transcribe_file_as(
    path: Path,
    response_format: str,
    *,
    url: str = DEFAULT_URL,
    options: UploadOptions | None = None,
    progress: UploadProgress | None = None,
    on_warning: OnWarning | None = None,
) -> str:
    """`recordings.transcribe_file_as`, waiting for the answer."""
    return asyncio.run(
        recordings.transcribe_file_as(
            path, response_format, url=url, options=options, progress=progress, on_warning=on_warning
        )
    )


def stream_file(
    path: Path,
    *,
    url: str = DEFAULT_URL,
    config: SessionConfig | None = None,
    api_key: str | None = None,
    chunk_ms: int = pacing.DEFAULT_CHUNK_MS,
    speed: float = 1.0,
) -> Iterator[Message]:
    """`live_streams.stream_file` as an ordinary iterator; leaving the loop early ends the session."""
    return iterate(
        lambda: live_streams.stream_file(
            url, path, config=config, api_key=api_key, chunk_ms=chunk_ms, speed=speed
        )
    )


def stream_audio(
    chunks: Iterable[bytes | Pcm16],
    *,
    url: str = DEFAULT_URL,
    config: SessionConfig | None = None,
    api_key: str | None = None,
) -> Iterator[Message]:
    """A live session over `chunks` as they come, from a microphone say, which are waited for in a thread; it
    resumes by itself when a connection is lost."""
    return iterate(lambda: live_streams.stream_audio(_async(chunks), url=url, config=config, api_key=api_key))


async def _async(chunks: Iterable[bytes | Pcm16]) -> AsyncGenerator[bytes | Pcm16, None]:
    iterator = iter(chunks)
    while (chunk := await asyncio.to_thread(next, iterator, None)) is not None:
        yield chunk


def iterate(source: Callable[[], AsyncGenerator[Message, None]]) -> Iterator[Message]:
    """Run an async generator on a loop in a thread of its own; yield what it yields, raise what it raises."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sotto-client", daemon=True)
    thread.start()
    messages = source()

    async def next_message() -> Message | None:
        return await anext(messages, None)

    try:
        while (message := _call(loop, next_message())) is not None:
            yield message
    finally:
        _call(loop, messages.aclose())
        _call(loop, loop.shutdown_default_executor())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _call(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
