"""`sotto live`: a recording streamed in real time, interim text turning into final text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.live import Live
from rich.text import Text

from serve_app.audio.recordings import decode_recording
from serve_app.cli.client import STDIN, Server, decoded_samples, raw_samples
from serve_app.cli.console import FAILED, OK, complain, in_words, out
from serve_app.core.errors import SottoError
from sotto_client import live_streams, pacing
from sotto_client.errors import SottoClientError
from sotto_client.live import SessionConfig
from sotto_client.messages import (
    ErrorMessage,
    FinalTranscript,
    Message,
    PartialTranscript,
    SessionEnded,
    SpeakerRevision,
)

LAST_WORDS_S = 3.0
"""After Ctrl-C: so long the text of what was sent is waited for."""


class Screen(Protocol):
    def interim(self, stable: str, rest: str) -> None: ...
    def final(self, start_ms: float, text: str) -> None: ...


class LineScreen:
    """One line per result, for pipes and logs."""

    def interim(self, stable: str, rest: str) -> None:
        out.print(f"... {stable}{rest}", markup=False)

    def final(self, start_ms: float, text: str) -> None:
        out.print(f"{_clock(start_ms)} {text}", markup=False)


class TerminalScreen:
    """Finals scroll up; the interim stays at the bottom, its stable words bright."""

    def __init__(self, display: Live) -> None:
        self._display = display

    def interim(self, stable: str, rest: str) -> None:
        self._display.update(Text.assemble((stable, "white"), (rest, "dim italic")))

    def final(self, start_ms: float, text: str) -> None:
        self._display.update(Text(""))
        self._display.console.print(Text.assemble((_clock(start_ms), "cyan"), " ", text))


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """What to stream and how. `path` may be `STDIN`, where a `sample_rate` in `config` means raw samples."""

    path: Path
    config: SessionConfig
    speed: float = 1.0


def show_live(request: LiveRequest, server: Server) -> int:
    """Stream the audio and show what comes; the exit status."""
    try:
        return asyncio.run(_until_interrupted(request, server))
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"{request.path}: {in_words(error)}")
    except (SottoClientError, SottoError, ValueError) as error:
        complain(str(error))
    return FAILED


async def _until_interrupted(request: LiveRequest, server: Server) -> int:
    """The whole session; after Ctrl-C only the text of what was sent until then, for a moment."""
    stop = asyncio.Event()
    session = asyncio.create_task(_session(request, server, stop))
    try:
        return await asyncio.shield(session)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([session], timeout=LAST_WORDS_S)
        raise
    finally:
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)


async def _session(request: LiveRequest, server: Server, stop: asyncio.Event) -> int:
    failed = False
    speakers: dict[str, str | None] = {}
    chunks = _until(stop, await _chunks(request))
    async with aclosing(chunks):
        session = live_streams.stream_audio(
            chunks, url=server.url, config=request.config, api_key=server.api_key
        )
        async with aclosing(session) as messages:
            with live_screen() as screen:
                async for message in messages:
                    show(message, screen, speakers)
                    failed = failed or isinstance(message, ErrorMessage)
                    if isinstance(message, SessionEnded) and message.reason != "completed":
                        complain(f"the server ended the session: {message.reason}")
                        failed = True
    return FAILED if failed else OK


async def _chunks(request: LiveRequest) -> AsyncGenerator[Any, None]:
    if request.path != STDIN:
        recording = await asyncio.to_thread(decode_recording, request.path)
        return pacing.paced_chunks(recording.samples, speed=request.speed)
    if request.config.sample_rate is not None:
        return raw_samples()
    return decoded_samples()


async def _until(stop: asyncio.Event, chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """`chunks` until they end or `stop` is set."""
    stopping = asyncio.create_task(stop.wait())
    try:
        async with aclosing(chunks):
            while True:
                coming = asyncio.ensure_future(anext(chunks, None))
                try:
                    await asyncio.wait([coming, stopping], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not coming.done():
                        coming.cancel()
                        await asyncio.wait([coming])
                if stopping.done() or (chunk := coming.result()) is None:
                    return
                yield chunk
    finally:
        stopping.cancel()


def show(message: Message, screen: Screen, speakers: dict[str, str | None]) -> None:
    """`speakers`: who was said to have spoken each segment."""
    match message:
        case PartialTranscript(text=text) if text:
            screen.interim(text[: message.stable_chars], text[message.stable_chars :])
        case FinalTranscript(text=text):
            speakers[message.segment_id] = message.speaker or None
            label = f"[{message.speaker}] " if message.speaker else ""
            if text:
                screen.final(message.start_ms, label + text)
            else:
                screen.interim("", "")  # what was shown is taken back
        case SpeakerRevision(segment_id=segment, speaker=speaker):
            if speaker is not None and speakers.get(segment) != speaker:
                speakers[segment] = speaker
                screen.final(message.start_ms, f"was [{speaker}]")
        case ErrorMessage():
            complain(f"{message.code}: {message.message}")


@contextmanager
def live_screen() -> Iterator[Screen]:
    """For a terminal, or for a pipe."""
    if not out.is_terminal:
        yield LineScreen()
        return
    with Live(Text(""), console=out, transient=True, refresh_per_second=12) as display:
        yield TerminalScreen(display)


def _clock(start_ms: float) -> str:
    minutes, seconds = divmod(start_ms / 1000, 60)
    return f"[{int(minutes):02d}:{seconds:05.2f}]"
