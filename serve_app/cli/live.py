"""`sotto live`: a recording streamed in real time, interim text turning into final text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.live import Live
from rich.text import Text

from serve_app.cli.console import complain, out
from serve_app.clients import blocking
from serve_app.clients.errors import SottoClientError
from serve_app.clients.live import SessionConfig
from serve_app.clients.messages import (
    ErrorMessage,
    FinalTranscript,
    Message,
    PartialTranscript,
    SessionEnded,
    SpeakerRevision,
)
from serve_app.errors import SottoError


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


def show_live(
    path: Path,
    url: str,
    language: str | None,
    speed: float,
    api_key: str | None,
    *,
    diarization: bool | None = None,
) -> int:
    """Stream the file and show what comes; 1 where the session failed."""
    failed = False
    speakers: dict[str, str | None] = {}
    try:
        messages = blocking.stream_file(
            path,
            url=url,
            config=SessionConfig(lang_code=language, diarization=diarization),
            api_key=api_key,
            speed=speed,
        )
        with _screen() as screen:
            for message in messages:
                show(message, screen, speakers)
                failed = failed or isinstance(message, ErrorMessage)
                if isinstance(message, SessionEnded) and message.reason != "completed":
                    complain(f"the server ended the session: {message.reason}")
                    failed = True
    except (SottoClientError, SottoError, OSError, ValueError) as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if failed else 0


def show(message: Message, screen: Screen, speakers: dict[str, str | None]) -> None:
    """`speakers`: who was said to have spoken each segment."""
    match message:
        case PartialTranscript(text=text) if text:
            screen.interim(text[: message.stable_chars], text[message.stable_chars :])
        case FinalTranscript(text=text):
            speakers[message.segment_id] = message.speaker
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
def _screen() -> Iterator[Screen]:
    if not out.is_terminal:
        yield LineScreen()
        return
    with Live(Text(""), console=out, transient=True, refresh_per_second=12) as display:
        yield TerminalScreen(display)


def _clock(start_ms: float) -> str:
    minutes, seconds = divmod(start_ms / 1000, 60)
    return f"[{int(minutes):02d}:{seconds:05.2f}]"
