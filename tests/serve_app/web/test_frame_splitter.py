"""However a client's frames are cut, and whatever they are, messages are those of the general parser."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from serve_app.web.frame_splitter import MAX_PLAIN_BYTES, FrameSplitter, Part
from serve_app.web.keepalive import JOINED_UNIT_BYTES, PatientWebSocket

SIZES = st.sampled_from([0, 1, 5, 125, 126, 127, 256, 640, 65_535, 65_536, 70_000])


class Transport:
    """Takes what is written; reading is never really paused."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


def connection(cls: type[WebSocketsSansIOProtocol]) -> Any:
    """One whose handshake is over."""
    config = uvicorn.Config(lambda _: None, log_config=None)
    loop = SimpleNamespace(time=lambda: 0.0, call_later=lambda *_: SimpleNamespace(cancel=lambda: None))
    protocol = cls(config, ServerState(), {}, loop)  # type: ignore[arg-type]
    protocol.transport = Transport()  # type: ignore[assignment]
    protocol.conn.state = State.OPEN
    protocol.conn.parser = protocol.conn.parse()
    return protocol


def said(protocol: Any) -> tuple[list[Any], bytes, bool, State]:
    """The messages, what was answered, whether the connection was closed."""
    messages = [protocol.queue.get_nowait() for _ in range(protocol.queue.qsize())]
    return messages, protocol.transport.written, protocol.transport.closed, protocol.conn.state


def unjoined(messages: list[Any], expected: list[Any]) -> list[Any]:
    """The messages with joined ones taken apart again, as long as those that are expected there."""
    found: list[Any] = []
    for message in messages:
        data = message.get("bytes") or b""
        size = len(expected[len(found)].get("bytes") or b"") if len(found) < len(expected) else 0
        if not size or size >= len(data):
            found.append(message)
            continue
        assert size % JOINED_UNIT_BYTES == 0
        assert len(data) <= PatientWebSocket.max_joined_bytes
        found += [message | {"bytes": data[at : at + size]} for at in range(0, len(data), size)]
    return found


@st.composite
def wire(draw: st.DrawFn) -> list[bytes]:
    """Frames as clients send them: audio, text, pings, messages in pieces; sometimes what is forbidden."""
    sent: list[bytes] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["audio", "audio", "audio", "text", "ping", "pieces", "odd", "close"]))
        payload = bytes(draw(SIZES))
        if kind == "audio":
            sent.append(Frame(Opcode.BINARY, payload).serialize(mask=True))
        elif kind == "text":
            sent.append(Frame(Opcode.TEXT, b"{}").serialize(mask=True))
        elif kind == "ping":
            sent.append(Frame(Opcode.PING, payload[:125]).serialize(mask=True))
        elif kind == "pieces":
            sent.append(Frame(Opcode.BINARY, payload, fin=False).serialize(mask=True))
            sent.append(Frame(Opcode.PING, b"p").serialize(mask=True))
            sent.append(Frame(Opcode.CONT, payload).serialize(mask=True))
        elif kind == "odd":
            sent.append(
                draw(
                    st.sampled_from(
                        [
                            Frame(Opcode.BINARY, payload).serialize(mask=False),
                            b"\xc2" + Frame(Opcode.BINARY, payload).serialize(mask=True)[1:],
                            Frame(Opcode.CONT, payload).serialize(mask=True),
                            Frame(Opcode.BINARY, payload, fin=False).serialize(mask=True),
                            b"\x83\x80abcd",
                            b"\x82\xff" + bytes([255] * 8) + b"abcd",
                        ]
                    )
                )
            )
        else:
            sent.append(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    return sent


@given(wire(), st.lists(st.integers(1, 80_000), max_size=8))
def test_messages_answers_and_closes_are_those_of_the_general_parser(
    sent: list[bytes], cuts: list[int]
) -> None:
    """As it reads them where they come one by one."""
    ours, theirs = connection(PatientWebSocket), connection(WebSocketsSansIOProtocol)
    for frame in sent:
        if not theirs.transport.closed:
            theirs.data_received(frame)
    data = b"".join(sent)
    for cut in (*cuts, len(data)):
        piece, data = data[:cut], data[cut:]
        if piece and not ours.transport.closed:
            ours.data_received(piece)
    (messages, *ours_else), (expected, *theirs_else) = said(ours), said(theirs)
    assert ours_else == theirs_else
    assert unjoined(messages, expected) == expected


def test_small_frames_that_were_read_together_are_one_message_of_whole_samples() -> None:
    protocol = connection(PatientWebSocket)
    worklet = Frame(Opcode.BINARY, bytes(256)).serialize(mask=True)
    odd = Frame(Opcode.BINARY, bytes(255)).serialize(mask=True)
    empty = Frame(Opcode.BINARY, b"").serialize(mask=True)
    protocol.data_received(worklet * 12 + odd * 2 + empty * 2 + worklet * 40)
    messages, *_ = said(protocol)
    assert [len(message["bytes"]) for message in messages] == [3072, 255, 255, 0, 0, 8192, 2048]


def test_audio_byte_by_byte_holds_one_frame_at_most() -> None:
    splitter = FrameSplitter()
    data = Frame(Opcode.BINARY, b"\x01\x02" * 300).serialize(mask=True)
    parts = [part for _ in range(3) for byte in data for part in splitter.push(bytes([byte]))]
    assert parts == [Part(b"\x01\x02" * 300)] * 3
    assert splitter.take_rest() == b""


def test_what_is_large_is_passed_on_and_not_held() -> None:
    splitter = FrameSplitter()
    data = Frame(Opcode.BINARY, bytes(MAX_PLAIN_BYTES + 1)).serialize(mask=True)
    parts = splitter.push(data[:1000])
    assert parts == [Part(None, data[:1000])]
    assert splitter.take_rest() == b""


@pytest.mark.parametrize("behind", [b"", Frame(Opcode.BINARY, b"ab").serialize(mask=True)], ids=["", "ab"])
def test_a_client_that_does_not_wait_for_the_handshake_is_read_by_the_general_parser(behind: bytes) -> None:
    protocol = connection(PatientWebSocket)
    protocol.conn.state = State.CONNECTING
    protocol.conn.parser = iter(lambda: None, 1)  # type: ignore[assignment]
    protocol.data_received(b"GET / HTTP/1.1\r\n\r\n" + behind)
    assert protocol._is_between_frames == (behind == b"")


def test_a_frame_that_is_cut_by_our_own_close_is_read_on_by_the_general_parser() -> None:
    protocol = connection(PatientWebSocket)
    data = Frame(Opcode.BINARY, bytes(640)).serialize(mask=True)
    protocol.data_received(data[:100])
    protocol.conn.send_close(1000)
    protocol.close_sent = True
    protocol.data_received(data[100:] + Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
    assert protocol.transport.closed or protocol.conn.state is not State.OPEN
    assert protocol.conn.close_rcvd is not None
    assert protocol.queue.empty()
