"""Whether an answer lets its connection be used again, by what had been read of the request's body."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse

from fakes.fake_service import FakeService, FakeSettings
from serve_app.web.app import create_app
from serve_app.web.unread_bodies import MAX_LINGER_BYTES, ClosedWhereUnread

PIECES = ({"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"})


def request_scope(method="POST", path="/", headers=(), http_version="1.1"):
    return {
        "type": "http",
        "http_version": http_version,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }


async def exchange(app, scope, pieces=PIECES):
    """The messages of the answer, and how many pieces of the body were left lying."""
    incoming, sent = list(pieces), []

    async def receive():
        if incoming:
            return incoming.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("nothing comes any more")

    async def send(message):
        sent.append(message)

    async with asyncio.timeout(30):
        await app(scope, receive, send)
    return sent, len(incoming)


def closes(sent):
    assert sent[0]["type"] == "http.response.start"
    return (b"connection", b"close") in sent[0]["headers"]


async def at_once(scope, receive, send):
    await PlainTextResponse("no")(scope, receive, send)


async def after_reading(scope, receive, send):
    await Request(scope, receive).body()
    await PlainTextResponse("yes")(scope, receive, send)


async def while_reading(scope, receive, send):
    """One line for each part of the body, the first before the second has been read."""

    async def lines():
        async for part in Request(scope, receive).stream():
            yield part

    await send({"type": "http.response.start", "status": 200, "headers": []})
    async for line in lines():
        await send({"type": "http.response.body", "body": line, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


CHUNKED, COUNTED = ("transfer-encoding", "chunked"), ("content-length", "3")


@pytest.mark.parametrize("header", [CHUNKED, COUNTED])
async def test_an_answer_before_the_body_was_read_closes_the_connection(header):
    sent, _ = await exchange(ClosedWhereUnread(at_once), request_scope(headers=[header]))
    assert closes(sent)
    assert b"".join(message.get("body", b"") for message in sent) == b"no"


@pytest.mark.parametrize("header", [CHUNKED, COUNTED])
async def test_an_answer_behind_the_whole_body_keeps_it(header):
    sent, _ = await exchange(ClosedWhereUnread(after_reading), request_scope(headers=[header]))
    assert not closes(sent)


@pytest.mark.parametrize("headers", [[], [("content-length", "0")]])
async def test_a_request_without_a_body_keeps_it(headers):
    sent, left = await exchange(ClosedWhereUnread(at_once), request_scope(headers=headers))
    assert not closes(sent)
    assert left == len(PIECES), "nothing was waited for"


async def test_an_answer_that_streams_while_the_body_comes_closes_it_and_takes_nothing_away():
    sent, _ = await exchange(ClosedWhereUnread(while_reading), request_scope(headers=[CHUNKED]))
    assert closes(sent)
    assert [message.get("body") for message in sent[1:]] == [b"ab", b"c", b"", b""]


async def test_the_rest_of_a_refused_body_is_dropped_before_the_answer_ends():
    sent, left = await exchange(ClosedWhereUnread(at_once), request_scope(headers=[COUNTED]))
    assert left == 0
    assert [message.get("more_body", False) for message in sent[1:]] == [True, False]


async def test_a_body_that_never_ends_is_not_waited_for_long():
    app = ClosedWhereUnread(at_once, linger_s=0.01)
    sent, _ = await exchange(app, request_scope(headers=[COUNTED]), pieces=PIECES[:1])
    assert not sent[-1].get("more_body", False)


async def test_so_much_of_a_refused_body_is_dropped_and_no_more():
    piece = {"type": "http.request", "body": bytes(1024 * 1024), "more_body": True}
    num_pieces = MAX_LINGER_BYTES // len(piece["body"])
    app = ClosedWhereUnread(at_once, linger_s=60)
    sent, left = await exchange(app, request_scope(headers=[COUNTED]), pieces=[piece] * (num_pieces + 5))
    assert left == 5
    assert not sent[-1].get("more_body", False)


async def test_a_client_that_goes_away_is_not_waited_for():
    gone = ({"type": "http.disconnect"},)
    sent, left = await exchange(ClosedWhereUnread(at_once), request_scope(headers=[COUNTED]), pieces=gone)
    assert left == 0
    assert not sent[-1].get("more_body", False)


async def test_http_2_spoken_by_the_server_itself_has_no_such_header():
    scope = request_scope(headers=[COUNTED], http_version="2")
    sent, _ = await exchange(ClosedWhereUnread(at_once), scope)
    assert not closes(sent)


async def test_a_stream_goes_through_unchanged():
    async def app(scope, receive, send):
        async def lines():
            yield b"1"
            yield b"2"

        await StreamingResponse(lines())(scope, receive, send)

    sent, _ = await exchange(ClosedWhereUnread(app), request_scope())
    assert [message.get("body") for message in sent[1:]] == [b"1", b"2", b""]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/nowhere", 404),
        ("POST", "/v1/nowhere", 404),
        ("POST", "/health", 405),
        ("POST", "/transcribe/", 307),
        ("GET", "/health/live", 200),
        ("POST", "/transcribe", 415),
        ("POST", "/transcribe/stream", 415),
        ("POST", "/v1/listen", 400),
        ("POST", "/v1/audio/transcriptions", 400),
        ("POST", "/v1/realtime/client_secrets", 400),
    ],
)
async def test_every_door_closes_where_it_answers_early(method, path, status):
    scope = request_scope(
        method, path, [("content-length", "90000000"), ("content-type", "application/json")]
    )
    sent, _ = await exchange(
        create_app(FakeService(), FakeSettings()),
        scope,
        ({"type": "http.request", "body": bytes(100_000), "more_body": True}, {"type": "http.disconnect"}),
    )
    assert sent[0]["status"] == status
    assert closes(sent)


async def test_an_unexpected_failure_closes_too():
    service = FakeService()
    service.status = None
    app = create_app(service, FakeSettings())
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.disconnect"}

    with pytest.raises(TypeError):
        await app(request_scope("GET", "/health", [COUNTED]), receive, send)
    assert sent[0]["status"] == 500
    assert closes(sent)
    assert any(name == b"x-request-id" for name, _ in sent[0]["headers"])
