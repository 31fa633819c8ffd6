"""What the client commands share: the server they speak to, and audio from standard input (`-`)."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from serve_app.cli.console import fail
from serve_app.core.samples import Pcm16
from serve_app.settings import SettingsError, read_some
from sotto_client.addresses import authorization, http_url


@dataclass(frozen=True, slots=True)
class Server:
    """An address that was looked at, and the key, which is never shown."""

    url: str
    api_key: str | None = field(default=None, repr=False)


def find_server(url: str | None, api_key: str | None) -> Server:
    """The server that flags or settings name; a usage error where they are wrong."""
    try:
        settings = read_some(
            ("service_url", "api_key"), flags={"service_url": url or None, "api_key": api_key or None}
        )
        server = Server(settings.service_url, settings.secret("api_key") or None)
        http_url(server.url, "/")
        authorization(server.api_key)
    except (SettingsError, ValueError) as error:
        fail(str(error))
    return server


def slack_address(given: str | None) -> str | None:
    """Where Slack takes messages, as a flag or a setting says; a usage error, without the address, where it
    is none."""
    try:
        settings = read_some(("slack_webhook_url",), flags={"slack_webhook_url": given or None})
    except SettingsError:
        fail("the Slack webhook is no address")
    address = settings.secret("slack_webhook_url") or None
    if address is not None and not address.startswith(("https://", "http://")):
        fail("the Slack webhook must begin with https://")
    return address


STDIN = Path("-")
READ_BYTES = 64 * 1024
MAX_READS_WAITING = 16


def refuse_terminal() -> None:
    if sys.stdin.isatty():
        fail("standard input is a terminal: pipe audio into it, or name a file")


@contextmanager
def kept(path: Path) -> Iterator[Path]:
    """A file of what comes on standard input, for as long as the block lasts; any other `path` as it is."""
    if path != STDIN:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sotto-") as folder:
        copy = Path(folder) / "stdin"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield copy


async def raw_samples() -> AsyncGenerator[bytes, None]:
    """16-bit samples as they come, never half of one."""
    rest = b""
    async with aclosing(_pieces()) as pieces:
        async for piece in pieces:
            data = rest + piece
            whole = len(data) // 2 * 2
            rest = data[whole:]
            if whole:
                yield data[:whole]


async def decoded_samples() -> AsyncGenerator[Pcm16, None]:
    """16 kHz samples of the container that comes, as soon as they can be decoded. Raises `SottoError`."""
    from serve_app.audio.stream_decoder import ContainerStream

    async with ContainerStream() as container:
        feeder = asyncio.create_task(_feed(container.feed, container.finish))
        try:
            async for samples in container.samples():
                yield samples
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)


async def _feed(feed: Callable[[bytes], Awaitable[None]], finish: Callable[[], None]) -> None:
    async with aclosing(_pieces()) as pieces:
        async for piece in pieces:
            await feed(piece)
    finish()


async def _pieces() -> AsyncGenerator[bytes, None]:
    """What comes, when it comes, until the end.

    Read in a daemon thread: Python waits for those of an executor at its end, and a microphone may be silent.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(MAX_READS_WAITING)

    def read() -> None:
        piece = b"?"
        while piece:
            room.acquire()
            try:
                piece = os.read(sys.stdin.fileno(), READ_BYTES)
            except OSError:
                piece = b""
            try:
                loop.call_soon_threadsafe(waiting.put_nowait, piece)
            except RuntimeError:  # the loop was closed meanwhile
                return

    threading.Thread(target=read, name="standard-input", daemon=True).start()
    while piece := await waiting.get():
        room.release()
        yield piece
