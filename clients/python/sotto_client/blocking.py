"""The clients for programs without an event loop: each call runs one of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sotto_client import live_streams, pacing, recordings
from sotto_client.addresses import DEFAULT_URL
from sotto_client.audio import Pcm16
from sotto_client.live import SessionConfig
from sotto_client.messages import Message
from sotto_client.recordings import OnWarning, Transcription, UploadOptions, UploadProgress

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
    """What `chunks` yields, waited for in a daemon thread: a microphone may be silent when all else ends."""
    loop = asyncio.get_running_loop()
    wanted, over = threading.Semaphore(0), threading.Event()
    came: asyncio.Queue[bytes | Pcm16 | Exception | None] = asyncio.Queue()

    def fetch() -> None:
        iterator = iter(chunks)
        while wanted.acquire() and not over.is_set():
            try:
                item: bytes | Pcm16 | Exception | None = next(iterator, None)
            except Exception as error:  # the caller's own: raised where the chunk is awaited
                item = error
            try:
                loop.call_soon_threadsafe(came.put_nowait, item)
            except RuntimeError:  # the loop was closed meanwhile
                return

    threading.Thread(target=fetch, name="sotto-audio", daemon=True).start()
    try:
        while True:
            wanted.release()
            chunk = await came.get()
            if isinstance(chunk, Exception):
                raise chunk
            if chunk is None:
                return
            yield chunk
    finally:
        over.set()
        wanted.release()


def iterate(source: Callable[[], AsyncGenerator[Message, None]]) -> Iterator[Message]:
    """Run an async generator on a loop in a thread of its own; yield what it yields, raise what it raises.

    An exception that breaks into the wait for a message, as Ctrl-C does, ends the session and goes on alone.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sotto-client", daemon=True)
    thread.start()
    messages = source()
    reading: asyncio.Task[Any] | None = None

    async def next_message() -> Message | None:
        nonlocal reading
        reading = asyncio.current_task()
        return await anext(messages, None)

    async def close() -> None:
        if reading is not None and not reading.done():
            reading.cancel()
            await asyncio.wait([reading])
        await messages.aclose()
        await loop.shutdown_default_executor()

    try:
        while (message := _call(loop, next_message())) is not None:
            yield message
    finally:
        try:
            _call(loop, close())
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _call(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
