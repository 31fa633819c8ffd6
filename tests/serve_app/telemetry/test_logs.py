import asyncio
import io
import json
import logging
import sys
import threading

import pytest
import structlog

from serve_app.core.sealing import Pseudonyms
from serve_app.telemetry.logs import SPOKEN_FIELDS, configure_logs, seal_unhandled


@pytest.fixture
def stream():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(logging.LogRecord)
    structlog.reset_defaults()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_json_object_a_line_with_level_name_and_time(stream):
    configure_logs("INFO", stream)
    structlog.get_logger("door").info("session opened", session_id="s", num_samples=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "session opened",
        "level": "info",
        "logger": "door",
        "session_id": "s",
        "num_samples": 3,
    }


def test_libraries_log_in_the_same_shape(stream):
    configure_logs("INFO", stream)
    logging.getLogger("third.party").warning("port %d taken", 8000)
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("port 8000 taken", "warning", "third.party")


def test_the_request_id_is_on_every_line(stream):
    configure_logs("INFO", stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("a").info("one")
        logging.getLogger("b").info("two")
    structlog.get_logger("a").info("three")
    assert [line.get("request_id") for line in lines(stream)] == ["r1", "r1", None]


def test_levels_below_are_silent(stream):
    configure_logs("warning", stream)
    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    structlog.get_logger("a").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_an_unknown_level_is_refused(stream):
    with pytest.raises(ValueError, match="unknown log level 'LOUD'"):
        configure_logs("LOUD", stream)


def test_configuring_twice_does_not_double_the_lines(stream):
    configure_logs("INFO", stream)
    configure_logs("INFO", stream)
    structlog.get_logger("a").info("once")
    assert len(lines(stream)) == 1


@pytest.mark.parametrize("field", sorted(SPOKEN_FIELDS))
def test_what_was_said_never_reaches_the_log(stream, field):
    configure_logs("INFO", stream)
    structlog.get_logger("a").info("decoded", **{field: "the patient said"})
    assert "patient" not in stream.getvalue()
    assert lines(stream)[0][field] == "<16 hidden>"


def test_exceptions_are_one_line_too(stream):
    configure_logs("INFO", stream)
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    (line,) = lines(stream)
    assert "ValueError: bad" in line["exception"]


SECRET = "the patient said measles"


def strict(stream, **more):
    configure_logs("INFO", stream, pseudonym=Pseudonyms(b"key"), **more)


def fail(prompt=SECRET):
    raise ValueError(f"cannot decode {prompt}")


def test_tracebacks_have_no_local_variables(stream):
    configure_logs("INFO", stream, format="text")
    words = SECRET + " locally"
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger("a").exception("failed")
        logging.getLogger("b").exception("failed")
    assert words not in stream.getvalue()
    assert stream.getvalue().count("ValueError: bad") == 2


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize("level", ["exception", "error"])
def test_a_strict_log_says_where_it_failed_and_not_with_what(stream, format, level):
    strict(stream, format=format)
    try:
        try:
            fail()
        except ValueError as error:
            raise RuntimeError(SECRET) from error
    except RuntimeError as error:
        more = {} if level == "exception" else {"exc_info": error}
        getattr(structlog.get_logger("a"), level)("failed", reason=error, **more)
        getattr(logging.getLogger("b"), level)("failed: %s", error, **more)
        logging.getLogger("c").error(error)
    text = stream.getvalue()
    assert "measles" not in text
    assert text.count("RuntimeError: (hidden)") == text.count("ValueError: (hidden)") == 2
    assert "in fail" in text
    if format == "json":
        assert len(lines(stream)) == 3


def test_loggers_with_handlers_of_their_own_are_strict_too(stream):
    strict(io.StringIO())
    own = logging.StreamHandler(stream)
    logger = logging.getLogger("of.serve")
    logger.addHandler(own)
    try:
        fail()
    except ValueError:
        logger.exception("Request failed.")
    finally:
        logger.removeHandler(own)
    assert "measles" not in stream.getvalue()
    assert "ValueError: (hidden)" in stream.getvalue()


def test_groups_of_exceptions_are_hidden_too(stream):
    strict(stream)
    structlog.get_logger("a").error(
        "x", exc_info=ExceptionGroup(SECRET, [ValueError(SECRET), KeyError(SECRET)])
    )
    assert "measles" not in stream.getvalue()
    assert "KeyError" in stream.getvalue()


def test_ids_that_clients_choose_are_pseudonyms_in_a_strict_log(stream):
    strict(stream)
    with structlog.contextvars.bound_contextvars(request_id="jane-doe"):
        structlog.get_logger("a").info("one", session_id="jane-doe")
        logging.getLogger("b").info("two")
    first, second = lines(stream)
    assert "jane" not in stream.getvalue()
    assert (
        first["session_id"] == first["request_id"] == second["request_id"] == Pseudonyms(b"key")("jane-doe")
    )
    assert Pseudonyms(b"other")("jane-doe") != first["session_id"]


def test_what_nothing_catches_is_sealed_too(stream, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(
        asyncio.BaseEventLoop, "default_exception_handler", asyncio.BaseEventLoop.default_exception_handler
    )
    strict(stream)
    seal_unhandled()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

    async def forget():
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(forget())
    try:
        fail()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    assert "measles" not in stream.getvalue()
    assert stream.getvalue().count("ValueError: (hidden)") == 3


def test_a_terminal_gets_text_and_a_pipe_json(stream):
    configure_logs("INFO", stream)
    stream.isatty = lambda: True
    structlog.get_logger("a").info("first")
    configure_logs("INFO", stream)
    structlog.get_logger("a").info("second")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first)["event"] == "first"
    assert "second" in second
    assert not second.startswith("{")


@pytest.mark.parametrize(("level", "is_hidden"), [("INFO", True), ("DEBUG", False)])
def test_on_a_requests_lines_exceptions_say_where_alone_unless_one_debugs(stream, level, is_hidden):
    configure_logs(level, stream)
    try:
        fail()
    except ValueError:
        structlog.get_logger("a").exception("failed", session_id="s")
        with structlog.contextvars.bound_contextvars(request_id="r"):
            logging.getLogger("b").exception("failed")
    assert ("measles" not in stream.getvalue()) is is_hidden
    assert stream.getvalue().count("in fail") == 2
    assert len(lines(stream)) == 2
