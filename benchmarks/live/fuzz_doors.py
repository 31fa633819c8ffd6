"""Throws mutated frames at every live door: each must answer with its own error or close, and never fail.

    python -m benchmarks.live.fuzz_doors --frames 100000

A door fails where it logs an exception, closes with 1011, or does not come to an end within 20 s. Behind the
doors is a scripted service, so that only the doors are tried. The frames are the same for the same `--seed`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.types import ASGIApp, Message
from structlog.testing import capture_logs

from benchmarks.report import print_columns
from serve_app.web.app import create_app
from tests.fakes.encoded_audio import encoded
from tests.fakes.fake_service import FakeService, FakeSettings

Frame: TypeAlias = str | bytes

_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**64, -(2**70), 0.5, -1e300, 1e-320,
    "", "x", "\x00", "\ud7ff", "é" * 300, "9" * 40, [], [[]], {}, {"type": "type"}, [None] * 200,
)  # fmt: skip
_BLOBS = (
    b"",
    b"\x00",
    b"OggS",
    b"\x1a\x45\xdf\xa3",
    b"RIFF\xff\xff\xff\xffWAVE",
    b"fLaC",
    b"ffconcat version 1.0\n",
)
_TEXTS = (
    "",
    "null",
    "[]",
    "{}",
    '{"type":',
    '{"type":null}',
    "[" * 5_000,
    '"' + "a" * 5_000,
    "\x00",
    "NaN",
    "1e999",
)


class FrameMutator:
    """Endless frames near the valid ones."""

    def __init__(self, valid: Sequence[Frame], seed: int) -> None:
        self._valid = tuple(valid)
        self._random = random.Random(seed)

    def conversation(self) -> Iterator[Frame]:
        """Frames of one connection: mostly the valid ones in order, some of them spoilt, some strange."""
        num_frames = self._random.randint(1, 24)
        for index in range(num_frames):
            frame = self._valid[index % len(self._valid)]
            if self._random.random() < 0.3:
                frame = self._random.choice(self._valid)
            yield frame if self._random.random() < 0.35 else self._spoilt(frame)

    def _spoilt(self, frame: Frame) -> Frame:
        roll = self._random.random()
        if roll < 0.08:
            return self._random.choice(_BLOBS) + self._random.randbytes(self._random.choice((0, 1, 7, 900)))
        if roll < 0.16:
            return self._random.choice(_TEXTS)
        if roll < 0.22:
            return _other_kind(frame)
        if isinstance(frame, str):
            return self._spoilt_text(frame)
        return self._spoilt_bytes(frame)

    def _spoilt_text(self, frame: str) -> str:
        if self._random.random() < 0.6:
            try:
                return json.dumps(self._spoilt_value(json.loads(frame)))
            except ValueError:
                pass
        return self._spoilt_bytes(frame.encode()).decode("utf-8", "replace")

    def _spoilt_value(self, value: Any) -> Any:
        """One place in a JSON value replaced, dropped or doubled."""
        if isinstance(value, dict) and value and self._random.random() < 0.85:
            name = self._random.choice(list(value))
            roll = self._random.random()
            if roll < 0.15:
                return {key: kept for key, kept in value.items() if key != name}
            if roll < 0.25:
                return {**value, self._random.choice(("", "type", "x" * 100, name + "_")): value[name]}
            return {**value, name: self._spoilt_value(value[name])}
        if isinstance(value, list) and value and self._random.random() < 0.85:
            index = self._random.randrange(len(value))
            return [*value[:index], self._spoilt_value(value[index]), *value[index:]]
        return self._random.choice(_VALUES)

    def _spoilt_bytes(self, data: bytes) -> bytes:
        spoilt = bytearray(data)
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randrange(len(spoilt) + 1)
            roll = self._random.random()
            if roll < 0.4 and at < len(spoilt):
                spoilt[at] ^= 1 << self._random.randrange(8)
            elif roll < 0.6:
                spoilt[at:at] = self._random.randbytes(self._random.randint(1, 9))
            elif roll < 0.8:
                del spoilt[at : at + self._random.randint(1, 40)]
            else:
                del spoilt[at:]
        return bytes(spoilt)


def _other_kind(frame: Frame) -> Frame:
    return frame.encode() if isinstance(frame, str) else frame.decode("latin-1")


MAX_CONNECTION_S = 20.0
IDLE_S = 0.03
NOT_SERVED = "not served"

_SAMPLES = bytes(range(256)) * 10
_OGG, _WEBM = encoded("ogg", 1.0), encoded("webm", 1.0)


def _cut(audio: bytes, size: int = 900) -> list[Frame]:
    return [audio[start : start + size] for start in range(0, len(audio), size)]


def _text(**message: object) -> str:
    return json.dumps(message)


_NATIVE: list[Frame] = [
    _text(type="start_session", session_id="s1", config={"lang_code": "pt", "sample_rate": 16_000}),
    _SAMPLES, _SAMPLES, _text(type="flush"), _SAMPLES, _text(type="end_session"), _text(type="cancel"),
]  # fmt: skip
_INTERIM_FINAL: list[Frame] = [
    _text(event="start", language="auto"), _SAMPLES, _text(event="set", interimRate=4), _SAMPLES,
    _text(event="stop"),
]  # fmt: skip
_STREAM: list[Frame] = [*_cut(_OGG)[:8], _text(type="flush"), _text(type="ping"), _text(type="end_session")]
_REALTIME: list[Frame] = [
    _text(
        type="session.update",
        session={
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24_000},
                    "transcription": {"model": "whisper-1", "language": "en", "prompt": "p"},
                    "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 500},
                }
            },
        },
    ),
    _text(type="input_audio_buffer.append", audio=base64.b64encode(_SAMPLES).decode()),
    _text(type="input_audio_buffer.commit"),
    _text(type="input_audio_buffer.append", audio=base64.b64encode(_SAMPLES).decode()),
    _text(type="input_audio_buffer.clear"),
]
_LISTEN: list[Frame] = [
    _SAMPLES, _text(type="KeepAlive"), _SAMPLES, _text(type="Finalize"), _SAMPLES, _text(type="CloseStream")
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """A door's address and a conversation that it would take."""

    name: str
    path: str
    valid: tuple[Frame, ...]
    query: str = ""


TARGETS = (
    Target("/ws/stt", "/ws/stt", tuple(_NATIVE)),
    Target("/ws start", "/ws", tuple(_INTERIM_FINAL)),
    Target("/ws audio", "/ws", (*_cut(_WEBM)[:8], b""), "language=en"),
    Target("/asr full", "/asr", (*_cut(_WEBM)[:8], b"")),
    Target("/asr diff", "/asr", (_SAMPLES, _SAMPLES, b""), "mode=diff"),
    Target("/ws/stream", "/ws/stream", tuple(_STREAM)),
    Target("/ws/stream new words", "/ws/stream", tuple(_STREAM), "only_new_words=true"),
    Target("/v1/realtime", "/v1/realtime", tuple(_REALTIME), "intent=transcription"),
    Target(
        "/v1/listen raw",
        "/v1/listen",
        tuple(_LISTEN),
        "encoding=linear16&sample_rate=16000&channels=2&multichannel=true",
    ),
    Target("/v1/listen container", "/v1/listen", (*_cut(_OGG)[:8], *_LISTEN[1:])),
)


@dataclass(slots=True)
class FuzzResult:
    """What became of the connections of one target."""

    num_frames: int = 0
    num_connections: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


async def fuzz(target: Target, num_frames: int, seed: int) -> FuzzResult:
    """Connections one after another until that many frames were sent."""
    result, mutator = FuzzResult(), FrameMutator(target.valid, seed)
    app = create_app(FakeService(), FakeSettings(idle_timeout_s=IDLE_S))
    while result.num_frames < num_frames:
        frames = list(mutator.conversation())
        with capture_logs() as logs:
            closed = await _connect(app, target, frames, leaves=result.num_connections % 2 == 1)
        result.num_connections += 1
        result.num_frames += len(frames)
        result.closes[closed] += 1
        if closed == NOT_SERVED:
            break
        if closed in ("1011", "hang", "exception"):
            result.failures.append(f"{closed}: {frames!r:.2000}")
        result.failures += [str(entry) for entry in logs if entry["log_level"] in ("error", "critical")]
    return result


async def _connect(app: ASGIApp, target: Target, frames: Iterable[Frame], *, leaves: bool) -> str:
    """One connection, left after its frames or at the idle limit: the close code, or what went wrong."""
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    said: list[Message] = []
    gone = asyncio.Event()

    async def send(message: Message) -> None:
        said.append(message)
        if message["type"] == "websocket.close":
            gone.set()

    incoming.put_nowait({"type": "websocket.connect"})
    for frame in frames:
        incoming.put_nowait(
            {"type": "websocket.receive", "text" if isinstance(frame, str) else "bytes": frame}
        )
    if leaves:
        incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
    task = asyncio.ensure_future(app(_scope(target), incoming.get, send))
    task.add_done_callback(lambda _: gone.set())
    try:
        async with asyncio.timeout(MAX_CONNECTION_S):
            await gone.wait()
            incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
            await task
    except TimeoutError:
        task.cancel()
        return "hang"
    except Exception:
        return "exception"
    accepted = bool(said) and said[0]["type"] == "websocket.accept"
    return str(said[-1].get("code", "none")) if accepted else NOT_SERVED


def _scope(target: Target) -> dict[str, object]:
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": target.path,
        "raw_path": target.path.encode(),
        "query_string": target.query.encode(),
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=2_000, help="frames for each door (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--door", help="only doors whose name contains this")
    chosen = parser.parse_args(arguments)
    rows, failed = [], False
    for target in TARGETS:
        if chosen.door and chosen.door not in target.name:
            continue
        began_s = time.process_time()
        result = asyncio.run(fuzz(target, chosen.frames, chosen.seed))
        cpu_s = time.process_time() - began_s
        closes = ", ".join(f"{code} {count}" for code, count in result.closes.most_common())
        counts = (str(result.num_frames), str(result.num_connections), str(len(result.failures)))
        rows.append((target.name, closes, *counts, f"{cpu_s:.1f}"))
        for failure in result.failures[:3]:
            print(failure)
        failed = failed or bool(result.failures)
    print_columns("Mutated frames", ("door", "closes", "frames", "connections", "failures", "CPU s"), rows)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
