"""What carries a live connection: the pieces of a body and the lines of its answer, and who has gone."""

import asyncio

import pytest

from serve_app.web.live.transports import ClientGone, DuplexTransport


def transport_of(*messages, send=None):
    incoming, sent = list(messages), []

    async def receive():
        return incoming.pop(0) if incoming else await asyncio.Event().wait()

    async def keep(message):
        sent.append(message)

    return DuplexTransport(receive, send or keep, "application/x-ndjson"), sent


def body(data, *, more=True):
    return {"type": "http.request", "body": data, "more_body": more}


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    "messages",
    [
        (body(b"ab"), body(b""), body(b"c"), body(b"", more=False), GONE),
        (body(b"ab"), body(b"c", more=False), GONE),
        (body(b"ab"), body(b"c", more=False), body(b"", more=False), GONE),
    ],
)
async def test_a_body_has_its_pieces_one_end_and_then_only_the_client_leaving(messages):
    transport, _ = transport_of(*messages)
    assert [await transport.receive() for _ in range(3)] == [b"ab", b"c", None]
    with pytest.raises(ClientGone):
        await transport.receive()


async def test_a_client_that_leaves_within_its_body_is_gone():
    transport, _ = transport_of(body(b"ab"), GONE)
    assert await transport.receive() == b"ab"
    with pytest.raises(ClientGone):
        await transport.receive()


async def test_a_client_that_only_listens_is_waited_for():
    transport, _ = transport_of(body(b"", more=False))
    assert await transport.receive() is None
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(transport.receive(), 0.01)


async def test_each_frame_is_a_line_and_the_close_the_end_of_the_answer():
    transport, sent = transport_of()
    await transport.accept()
    await transport.send("a")
    await transport.send(b"b")
    await transport.close(1011, "a reason that HTTP has no place for")
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"cache-control"]) == (200, b"no-store")
    assert [(message["body"], message["more_body"]) for message in sent[1:]] == [
        (b"a\n", True),
        (b"b\n", True),
        (b"", False),
    ]


async def test_a_server_that_cannot_send_has_lost_the_client():
    async def send(message):
        raise OSError

    transport, _ = transport_of(send=send)
    with pytest.raises(ClientGone):
        await transport.send("a")
